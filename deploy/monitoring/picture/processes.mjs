// The programs that a run starts. Each is bounded in time by timeout(1) and ends with the run,
// also when it fails: none outlives `endAll`.

import { spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Longer than any run: what is still there then was forgotten. */
const SECONDS_MAX = 900;

const UNTIL_MS = 60_000;

const running = new Map();

/** Starts a program in `folder`; what it prints goes to NAME.log there. */
export function start(name, program, options, { folder, env = {}, stdio = [] }) {
  const path = `${folder}/${name}.log`;
  const log = openSync(path, 'w');
  const child = spawn('timeout', ['--kill-after=5', SECONDS_MAX, program, ...options].map(String), {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', log, log, ...stdio],
  });
  const ended = new Promise((resolve) => child.on('exit', resolve).on('error', resolve));
  running.set(name, { child, ended });
  ended.then(() => running.delete(name));
  return { child, ended, log: () => readFileSync(path, 'utf8').slice(-2000) };
}

/** Ends one program; timeout(1) passes the signal on. */
export async function end(name) {
  const { child, ended } = running.get(name) ?? {};
  child?.kill('SIGTERM');
  await ended;
}

export async function endAll() {
  await Promise.all([...running.keys()].map(end));
}

/** Runs a program until it ends; throws what it said if it failed. */
export function run(program, options, settings = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, options.map(String), {
    encoding: 'utf8',
    ...settings,
  });
  if (status !== 0) {
    const said = error ?? `${stdout ?? ''}${stderr ?? ''}`;
    throw new Error(`${program} ${options.join(' ')}: ${said}`);
  }
  return stdout;
}

/** Waits until `attempt` returns something; a throw is a "not yet". Fails early if `awaited` ends. */
export async function until(what, attempt, awaited) {
  const deadline = Date.now() + UNTIL_MS;
  let last = 'nothing went wrong';
  while (Date.now() < deadline && !(awaited && awaited.child.exitCode !== null)) {
    try {
      const result = await attempt();
      if (result) return result;
    } catch (mistake) {
      last = mistake;
    }
    await sleep(200);
  }
  throw new Error(`waited in vain: ${what}: ${last}\n${awaited?.log() ?? ''}`);
}

/** A port outside of the range from which the kernel gives ports to clients. */
export async function freePort() {
  for (let tries = 0; tries < 1000; tries += 1) {
    const port = randomInt(10_000, 32_768);
    if (!given.has(port) && (await isFree(port))) {
      given.add(port);
      return port;
    }
  }
  throw new Error('no free port on 127.0.0.1');
}

const given = new Set();

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer().on('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
