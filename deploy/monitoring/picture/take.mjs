// Draws dashboard.json with data from a real Prometheus and takes pictures of it, light and dark,
// on a telephone and on a desktop. Fails if a panel has a mistake or no data. See README.md.

import { copyFileSync, createReadStream, existsSync, mkdirSync } from 'node:fs';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { extname, join, resolve } from 'node:path';
import { openBrowser } from './browser.mjs';
import { endAll, run } from './processes.mjs';
import { play, SCRAPE_MS, startPrometheus } from './stage.mjs';

const WIDTHS = [400, 1300];
const THEMES = ['light', 'dark'];
/** Of data and pictures; building comes before. */
const MINUTES_MAX = 10;

/** Where Grafana's style sheet expects its font, and where a package has it. */
const FONTS = {
  '/fonts/inter/Inter-Regular.woff2': 'inter-latin-400-normal.woff2',
  '/fonts/inter/Inter-Medium.woff2': 'inter-latin-500-normal.woff2',
};

const here = import.meta.dirname;
const root = join(here, '../../..');
const target = resolve(root, process.env.CARGO_TARGET_DIR ?? 'target');
const folder = join(target, 'pictures');
const modules = join(folder, 'modules');
const packages = join(modules, 'node_modules');
const images = join(packages, '@grafana/ui/dist/public/img');
const settings = {
  root,
  folder: join(folder, 'run'),
  bin: join(target, 'e2e/bin'),
  ringdns: join(target, 'debug/ringdns'),
  loadgen: join(target, 'debug/loadgen'),
  seconds: Number(process.env.SECONDS_OF_DATA ?? 240),
};

async function main() {
  const isAgain = process.argv.includes('--again');
  const times = join(settings.folder, 'times.json');
  if (isAgain && !existsSync(times)) throw new Error('there are no data yet: run without --again');
  install();
  await bundle();
  if (!isAgain) {
    build();
    rmSync(settings.folder, { recursive: true, force: true });
    mkdirSync(settings.folder, { recursive: true });
    setTimeout(() => fail('it took too long'), MINUTES_MAX * 60_000).unref();
    say(`collecting data for ${settings.seconds} s`);
    writeFileSync(times, JSON.stringify(await play(settings)));
    await endAll();
  }
  const prometheus = await startPrometheus(settings);
  const mistakes = await takeAll({ ...JSON.parse(readFileSync(times)), prometheus });
  if (mistakes.length > 0) throw new AggregateError(mistakes);
}

/** Installs package-lock.json's packages, outside of the source tree, whose tests read it all. */
function install() {
  const [wanted, done] = [join(here, 'package-lock.json'), join(modules, 'installed')];
  if (existsSync(done) && readFileSync(done).equals(readFileSync(wanted))) return;
  say('installing packages');
  rmSync(modules, { recursive: true, force: true });
  mkdirSync(modules, { recursive: true });
  for (const name of ['package.json', 'package-lock.json']) {
    copyFileSync(join(here, name), join(modules, name));
  }
  // No script of a package runs, and none is needed.
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: modules });
  copyFileSync(wanted, done);
}

/** Builds the servers, from this source tree and as the end-to-end tests have them. */
function build() {
  say('building the servers');
  const servers = ['prometheus', 'coredns', 'etcd', 'kube-apiserver', 'kubectl'];
  run(join(root, 'deploy/e2e/build.sh'), servers, { cwd: root, stdio: 'inherit' });
  run('cargo', ['build', '-p', 'engine', '-p', 'loadgen'], { cwd: root, stdio: 'inherit' });
}

/** Puts the page and what it needs into one folder. */
async function bundle() {
  say('bundling the page');
  const esbuild = createRequire(`${modules}/`)('esbuild');
  await esbuild.build({
    entryPoints: [join(here, 'page.jsx')],
    outdir: join(folder, 'site'),
    nodePaths: [packages],
    bundle: true,
    format: 'esm',
    splitting: true,
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    loader: { '.ttf': 'empty', '.woff': 'empty', '.woff2': 'file', '.svg': 'text' },
    logLevel: 'error',
  });
}

/** Takes every picture, and returns what is wrong with them. */
async function takeAll({ from, to, prometheus }) {
  const server = await serveSite();
  const browser = openBrowser(settings.folder);
  const mistakes = new Set();
  for (const width of WIDTHS) {
    for (const theme of THEMES) {
      const parameters = new URLSearchParams({ prometheus, from, to, scrape: SCRAPE_MS, theme });
      const url = `http://127.0.0.1:${server.address().port}/?${parameters}`;
      const visited = await browser.visit(url, width);
      const file = join(folder, `dashboard-${width}-${theme}.png`);
      writeFileSync(file, visited.picture);
      say(file);
      mistakesOf(visited, width).forEach((mistake) => mistakes.add(mistake));
    }
  }
  server.close();
  return [...mistakes];
}

function mistakesOf({ drawn, errors, scrollWidth }, width) {
  const found = errors.map((error) => `the console says: ${error}`);
  if (scrollWidth > width) found.push(`the page is ${scrollWidth} wide instead of ${width}`);
  for (const { title, mistakes, empty } of drawn) {
    found.push(...mistakes.map((mistake) => `${title}: ${mistake}`));
    found.push(...empty.map((refId) => `${title}: query ${refId} finds nothing`));
  }
  return found;
}

function serveSite() {
  const types = { '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json',
    '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
  const page = '<!doctype html><style>body { margin: 0 }</style><link rel=icon href=data:>'
    + '<link rel=stylesheet href=/page.css>'
    + '<div id=root></div><script type=module src=/page.js></script>';
  const fileOf = (path) => {
    if (path === '/dashboard.json') return join(here, '../dashboard.json');
    if (path in FONTS) return join(packages, '@fontsource/inter/files', FONTS[path]);
    if (path.startsWith('/build/img/')) return join(images, path.slice('/build/img/'.length));
    return join(folder, 'site', path);
  };
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (pathname === '/') return response.setHeader('content-type', 'text/html').end(page);
    response.setHeader('content-type', types[extname(pathname)] ?? 'application/octet-stream');
    const file = createReadStream(fileOf(pathname));
    file.on('error', () => response.writeHead(404).end()).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

function say(text) {
  console.log(`pictures: ${text}`);
}

async function finish(code) {
  await endAll();
  process.exit(code);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => finish(1));
const fail = (mistake) => {
  // What the pictures show has no stack worth printing.
  const isFinding = mistake instanceof AggregateError;
  const said = isFinding ? mistake.errors.join('\n') : (mistake.stack ?? mistake);
  console.error(`pictures: FAILED:\n${said}`);
  return finish(1);
};
process.on('uncaughtException', fail);
main().then(() => finish(0), fail);
