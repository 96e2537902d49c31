// What the dashboard shows in the pictures: a real API server with the example cluster, two pods of
// ringdns and one of CoreDNS in front of three upstreams (one slow, one down), queries, changes, a
// reload, and a Prometheus that scrapes all of it. Everything is on loopback.

import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, run, start, until } from './processes.mjs';

export const SCRAPE_MS = 5000;

// As in a cluster where ringdns replaces CoreDNS: pods of one workload share a Corefile.
const PODS = [
  { server: 'ringdns', job: 'kube-dns', name: 'ringdns-6d4b75cb6d-8x2vq', ip: '127.0.0.11' },
  { server: 'ringdns', job: 'kube-dns', name: 'ringdns-6d4b75cb6d-tq7hn', ip: '127.0.0.12' },
  { server: 'coredns', job: 'coredns', name: 'coredns-7db6d8ff4d-k5zjw', ip: '127.0.0.13' },
];

// Those that a DNS server watches, and those that the API server needs to start.
const APIS = ['api/v1', 'discovery.k8s.io/v1', 'networking.k8s.io/v1', 'apiregistration.k8s.io/v1',
  'apiextensions.k8s.io/v1', 'admissionregistration.k8s.io/v1'];

// They wait for objects of APIs that are not served.
const ADMISSION_OFF = ['ServiceAccount', 'LimitRanger', 'Priority', 'ResourceQuota', 'RuntimeClass',
  'DefaultStorageClass', 'DefaultIngressClass', 'ValidatingAdmissionPolicy', 'PodTopologyLabels',
  'MutatingAdmissionPolicy', 'TaintNodesByCondition', 'StorageObjectInUseProtection',
  'PersistentVolumeClaimResize', 'CertificateApproval', 'CertificateSigning',
  'CertificateSubjectRestriction', 'ClusterTrustBundleAttest'];

const TOKEN = 'picture-token';
const REQUEST_MS = 5000;

/** Starts it all, and returns the times between which there are data. */
export async function play(settings) {
  const cluster = await startCluster(settings);
  const ports = { dns: await freePort(), metrics: await freePort() };
  const upstreams = await startUpstreams(settings);
  await startPods(settings, cluster, ports, upstreams);
  writePrometheusConfig(settings, ports);
  await startPrometheus(settings);
  const from = Date.now();
  const to = from + settings.seconds * 1000;
  startQueries(settings, ports);
  let isReloaded = false;
  for (let count = 0; Date.now() < to; count += 1) {
    await changeEndpoints(cluster, count);
    if (!isReloaded && Date.now() > (from + to) / 2) {
      appendFileSync(`${settings.folder}/ringdns.Corefile`, '# changed while it was served\n');
      isReloaded = true;
    }
    await sleep(2000);
  }
  return { from, to: Date.now() };
}

async function startCluster({ bin, root, folder }) {
  start('etcd', `${bin}/etcd`, [
    '--data-dir=etcd', '--unsafe-no-fsync', '--log-level=error',
    '--listen-client-urls=unix://etcd.socket:0', '--advertise-client-urls=unix://etcd.socket:0',
    '--listen-peer-urls=unix://peer.socket:0', '--initial-advertise-peer-urls=unix://peer.socket:0',
    '--initial-cluster=default=unix://peer.socket:0',
  ], { folder });
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(`${folder}/accounts.key`, privateKey.export({ type: 'pkcs1', format: 'pem' }));
  writeFileSync(`${folder}/accounts.pub`, publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(`${folder}/tokens.csv`, `${TOKEN},picture,picture,system:masters\n`);
  const port = await freePort();
  const apiServer = start('kube-apiserver', `${bin}/kube-apiserver`, [
    '--etcd-servers=unix://etcd.socket:0', '--bind-address=127.0.0.1', `--secure-port=${port}`,
    '--cert-dir=certificates', '--token-auth-file=tokens.csv', '--authorization-mode=AlwaysAllow',
    '--endpoint-reconciler-type=none', '--profiling=false',
    '--enable-priority-and-fairness=false',
    `--runtime-config=api/all=false,${APIS.map((api) => `${api}=true`)}`,
    '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
    '--service-account-issuer=https://kubernetes.default.svc',
    '--service-account-signing-key-file=accounts.key',
    '--service-account-key-file=accounts.pub',
    `--disable-admission-plugins=${ADMISSION_OFF}`,
  ], { folder });
  const certificate = `${folder}/certificates/apiserver.crt`;
  const cluster = { port, kubeconfig: `${folder}/kubeconfig` };
  await until('the API server is ready', async () => {
    cluster.ca = readFileSync(certificate);
    return (await request(cluster, 'GET', '/readyz')) === 200;
  }, apiServer);
  writeFileSync(cluster.kubeconfig, JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'picture',
    contexts: [{ name: 'picture', context: { cluster: 'picture', user: 'picture' } }],
    clusters: [{
      name: 'picture',
      cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority': certificate },
    }],
    users: [{ name: 'picture', user: { token: TOKEN } }],
  }));
  const example = `${root}/deploy/example/cluster`;
  for (const path of [`${example}/namespaces.yaml`, example]) {
    run(`${bin}/kubectl`, ['--kubeconfig', cluster.kubeconfig, 'apply', '-f', path]);
  }
  return cluster;
}

/** Sends one request to the API server and returns the status. */
function request({ port, ca }, method, path, body) {
  const headers = {
    authorization: `Bearer ${TOKEN}`,
    'content-type': 'application/merge-patch+json',
  };
  const options = { host: '127.0.0.1', port, ca, method, path, headers, timeout: REQUEST_MS };
  return new Promise((resolve, reject) => {
    const sent = https.request(options, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(answer.statusCode));
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer in ${REQUEST_MS} ms`)));
    sent.on('error', reject).end(body && JSON.stringify(body));
  });
}

/** What the controllers of a cluster write when a pod becomes ready, or is no longer. */
async function changeEndpoints(cluster, count) {
  const slices = ['shop/endpointslices/storefront-9t4qh', 'shop/endpointslices/web-lb7kd'];
  const path = `/apis/discovery.k8s.io/v1/namespaces/${slices[count % slices.length]}`;
  const changed = new Date().toISOString();
  // On a busy machine the API server may be late. If it always is, a panel stays empty and says so.
  await request(cluster, 'PATCH', path, {
    metadata: { annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': changed } },
    endpoints: [{ addresses: [`10.244.9.${1 + (count % 250)}`], conditions: { ready: true } }],
  }).catch(() => {});
}

/** One that answers at once, one that is late or silent now and then, and one that is down. */
async function startUpstreams({ bin, folder }) {
  const ports = { fast: await freePort(), slow: await freePort(), down: await freePort() };
  writeFileSync(`${folder}/upstreams.Corefile`, `
    .:${ports.fast} {
        bind 127.0.0.1
        template IN A {
            answer "{{ .Name }} 30 IN A 192.0.2.1"
        }
        template IN AAAA {
            answer "{{ .Name }} 30 IN AAAA 2001:db8::1"
        }
    }
    .:${ports.slow} {
        bind 127.0.0.1
        erratic {
            drop 40
            delay 10 80ms
        }
    }`);
  start('upstreams', `${bin}/coredns`, ['-conf', 'upstreams.Corefile'], { folder });
  return Object.values(ports).map((port) => `127.0.0.1:${port}`).join(' ');
}

async function startPods({ bin, ringdns, folder }, { kubeconfig }, { dns, metrics }, upstreams) {
  for (const server of ['ringdns', 'coredns']) {
    writeFileSync(`${folder}/${server}.Corefile`, `
    .:${dns} {
        bind {$POD_IP}
        errors
        prometheus {$POD_IP}:${metrics}
        kubernetes cluster.local in-addr.arpa ip6.arpa {
            kubeconfig ${kubeconfig}
            pods insecure
            fallthrough in-addr.arpa ip6.arpa
        }
        hosts {
            192.0.2.7 registry.example.com
            fallthrough
        }
        forward . ${upstreams}
        cache 30
        loop
        reload 2s
        loadbalance
    }
    corp.example:${dns} {
        bind {$POD_IP}
        errors
        prometheus {$POD_IP}:${metrics}
        forward . ${upstreams}
        cache 5
    }\n`);
  }
  for (const { server, name, ip } of PODS) {
    const program = server === 'ringdns' ? ringdns : `${bin}/coredns`;
    const options = ['-conf', `${server}.Corefile`];
    if (server === 'ringdns') options.push('--shards', 2);
    const pod = start(name, program, options, { folder, env: { POD_IP: ip } });
    const scrape = async () => (await fetch(`http://${ip}:${metrics}/metrics`)).ok;
    await until(`${name} can be scraped`, scrape, pod);
  }
}

function writePrometheusConfig({ folder }, { metrics }) {
  const jobs = [...new Set(PODS.map(({ job }) => job))];
  writeFileSync(`${folder}/prometheus.yaml`, JSON.stringify({
    global: { scrape_interval: `${SCRAPE_MS}ms`, scrape_timeout: `${SCRAPE_MS}ms` },
    scrape_configs: jobs.map((job) => ({
      job_name: job,
      static_configs: PODS.filter((pod) => pod.job === job).map(({ name, ip }) => ({
        targets: [`${ip}:${metrics}`],
        labels: { namespace: 'kube-system', pod: name },
      })),
    })),
  }));
}

/** Starts Prometheus on the data of `folder` and returns its address. */
export async function startPrometheus({ bin, folder }) {
  const address = `127.0.0.1:${await freePort()}`;
  const prometheus = start('prometheus', `${bin}/prometheus`, [
    '--config.file=prometheus.yaml', '--storage.tsdb.path=data', `--web.listen-address=${address}`,
  ], { folder });
  const isReady = async () => (await fetch(`http://${address}/-/ready`)).ok;
  await until('Prometheus is ready', isReady, prometheus);
  return `http://${address}`;
}

/** Look-ups as pods send them, a stub zone, names in `hosts`, and other types; all rates change. */
function startQueries({ loadgen, root, folder, seconds }, { dns }) {
  const stub = Array.from({ length: 40 }, (_, index) => `host-${index}.corp.example A`);
  const other = ['registry.example.com A', 'example.com MX', '1.0.96.10.in-addr.arpa PTR',
    '_http._tcp.web.shop.svc.cluster.local SRV'];
  writeFileSync(`${folder}/queries`, [...stub, ...other].join('\n'));
  const step = Math.max(5, Math.floor(seconds / 6));
  for (const [index, { name, ip }] of PODS.entries()) {
    const common = ['-s', ip, '-p', dns, '-l', seconds, '-c', 4, '--seed', index + 1];
    const rates = (low, high) => `${low}..${high}+${Math.floor((high - low) / 5)}/${step}`;
    start(`lookups-${name}`, loadgen, [...common, '-Q', rates(200 + 50 * index, 700 + 50 * index),
      '--from', `${root}/deploy/example/cluster`, '--profile', 'ndots5',
      '--external', 0.25, '--nxdomain', 0.05, '--tcp-share', 0.05], { folder });
    start(`others-${name}`, loadgen, [...common, '-Q', 60, '-d', 'queries'], { folder });
  }
}
