// Headless Chromium, driven through its DevTools protocol over a pipe: no port, no library.

import { start, until } from './processes.mjs';

/** Opens a browser; `visit` loads a page and takes its picture at full height. */
export function openBrowser(folder) {
  const { child } = start('chromium', 'chromium', [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--no-first-run',
    '--disable-background-networking', '--remote-debugging-pipe',
    `--user-data-dir=${folder}/chromium`, 'about:blank',
  ], { folder, stdio: ['pipe', 'pipe'] });
  const [, , , input, output] = child.stdio;
  const waiting = new Map();
  const listeners = new Set();
  let rest = '';
  output.setEncoding('utf8').on('data', (text) => {
    const messages = (rest + text).split('\0');
    rest = messages.pop();
    for (const message of messages.map((json) => JSON.parse(json))) {
      waiting.get(message.id)?.(message);
      waiting.delete(message.id);
      if (message.method) listeners.forEach((listener) => listener(message));
    }
  });
  let lastId = 0;
  const call = (method, params = {}, sessionId) =>
    new Promise((resolve, reject) => {
      const id = (lastId += 1);
      waiting.set(id, ({ result, error }) => {
        if (error) reject(new Error(error.message));
        else resolve(result);
      });
      input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  return { visit: (url, width) => visit({ call, listeners }, url, width) };
}

/** The page's `window.drawn`, its console's errors, its size, and its picture as a PNG. */
async function visit({ call, listeners }, url, width) {
  const { targetId } = await call('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
  const ask = (method, params) => call(method, params, sessionId);
  const evaluate = async (expression) =>
    (await ask('Runtime.evaluate', { expression, returnByValue: true })).result.value;
  const errors = [];
  const listener = ({ sessionId: from, method, params }) => {
    const error = from === sessionId && errorIn(method, params);
    if (error) errors.push(error);
  };
  listeners.add(listener);
  const screen = { width, deviceScaleFactor: 1, mobile: false };
  const resize = (height) => ask('Emulation.setDeviceMetricsOverride', { ...screen, height });
  for (const domain of ['Page', 'Runtime', 'Log']) await ask(`${domain}.enable`);
  await resize(1000);
  await ask('Page.navigate', { url });
  const isDrawn = until('the page is drawn', () => evaluate('window.drawn'));
  const drawn = await isDrawn.catch(({ message }) => {
    throw new Error([message, ...errors].join('\n'));
  });
  const page = await evaluate(`(({ scrollWidth, scrollHeight }) => ({ scrollWidth, scrollHeight }))
    (document.documentElement)`);
  await resize(page.scrollHeight);
  const { data } = await ask('Page.captureScreenshot', { format: 'png' });
  listeners.delete(listener);
  await call('Target.closeTarget', { targetId });
  return { drawn, errors, ...page, picture: Buffer.from(data, 'base64') };
}

function errorIn(method, params) {
  switch (method) {
    case 'Runtime.exceptionThrown':
      return params.exceptionDetails.exception?.description ?? params.exceptionDetails.text;
    case 'Runtime.consoleAPICalled':
      return params.type === 'error' && params.args.map((a) => a.value ?? a.description).join(' ');
    case 'Log.entryAdded':
      return params.entry.level === 'error' && `${params.entry.text} ${params.entry.url ?? ''}`;
    default:
      return undefined;
  }
}
