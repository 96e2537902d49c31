// The dashboard as a page: dashboard.json's panels on its grid, with data from a Prometheus.
// Parameters: prometheus, from, to (ms), scrape (ms), theme. When every panel has been drawn,
// window.drawn holds one entry per panel: its title, its mistakes, its queries without data.

import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome, PortalContainer } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { shown } from './fields.js';
import { Heatmap } from './heatmap.jsx';
import { Stat, TableOf, Series } from './panels.jsx';
import { framesOf, variablesOf } from './prometheus.js';

// Grafana's grid: 24 columns; a row is 30 px, 8 px apart; one column on a narrow screen.
const COLUMNS = 24;
const ROW = 30;
const GAP = 8;
const ONE_COLUMN_BELOW = 768;
const MARGIN = 16;

const DRAWN_BY = { stat: Stat, timeseries: Series, heatmap: Heatmap, table: TableOf };

/** Where a panel lies, in pixels. In one column, `y` is where the panel before it ends. */
function placeOf({ x, y, w, h }, pageWidth, isOneColumn) {
  const inner = pageWidth - 2 * MARGIN;
  const column = (inner + GAP) / COLUMNS;
  return {
    left: isOneColumn ? 0 : x * column,
    top: y * (ROW + GAP),
    width: isOneColumn ? inner : w * column - GAP,
    height: h * (ROW + GAP) - GAP,
  };
}

/** The panels with their places, from top to bottom. */
function placed(panels, pageWidth) {
  const isOneColumn = pageWidth < ONE_COLUMN_BELOW;
  const sorted = panels.toSorted((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x);
  let below = 0;
  return sorted.map((panel) => {
    const at = isOneColumn ? { ...panel.gridPos, y: below } : panel.gridPos;
    below = Math.max(below, at.y + at.h);
    return { panel, place: placeOf(at, pageWidth, isOneColumn) };
  });
}

function Panel({ panel, place, context }) {
  const [result, setResult] = useState(null);
  useEffect(() => {
    framesOf(panel, place.width, context)
      .then(async (found) => ({ ...found, frames: await shown(panel, found.frames, context) }))
      .catch((mistake) => ({ frames: [], empty: [], mistakes: [String(mistake)] }))
      .then(setResult);
  }, []);
  useEffect(() => {
    if (result) {
      context.done({ title: panel.title, mistakes: result.mistakes, empty: result.empty });
    }
  }, [result]);
  const Drawing = DRAWN_BY[panel.type];
  const content = (width, height) => {
    if (!Drawing) throw new Error(`no drawing for panels of type ${panel.type}`);
    if (!result) return null;
    const isEmpty = result.frames.every((frame) => frame.length === 0);
    if (isEmpty) return <div style={{ textAlign: 'center', marginTop: height / 3 }}>No data</div>;
    return <Drawing {...{ panel, width, height, context }} frames={result.frames} />;
  };
  const padding = panel.type === 'table' ? 'none' : 'md';
  return (
    <div style={{ position: 'absolute', ...place }}>
      <PanelChrome
        {...{ padding, title: panel.title, description: panel.description }}
        {...{ width: place.width, height: place.height }}
        statusMessage={result?.mistakes.join('; ')}
      >
        {content}
      </PanelChrome>
    </div>
  );
}

function Dashboard({ dashboard, context }) {
  const laidOut = placed(dashboard.panels, window.innerWidth);
  const height = Math.max(...laidOut.map(({ place }) => place.top + place.height));
  const rowStyle = { position: 'absolute', fontWeight: 500, lineHeight: `${ROW}px` };
  return (
    <main style={{ padding: MARGIN, height: height + 2 * MARGIN, position: 'relative' }}>
      <div style={{ position: 'relative' }}>
        {laidOut.map(({ panel, place }) =>
          panel.type === 'row' ? (
            <div key={panel.id} style={{ ...rowStyle, ...place }}>{panel.title}</div>
          ) : (
            <Panel key={panel.id} {...{ panel, place, context }} />
          ),
        )}
      </div>
    </main>
  );
}

async function start() {
  const parameter = new URLSearchParams(location.search);
  const number = (name) => Number(parameter.get(name));
  const theme = createTheme({ colors: { mode: parameter.get('theme') } });
  window.__grafana_public_path__ = '/';
  const dashboard = await (await fetch('/dashboard.json')).json();
  const [from, to] = [dateTime(number('from')), dateTime(number('to'))];
  const context = {
    theme,
    prometheus: parameter.get('prometheus'),
    scrapeMs: number('scrape'),
    timeZone: 'browser',
    timeRange: { from, to, raw: { from, to } },
    done: (entry) => {
      drawn.push(entry);
      // Charts draw in the frame after their component has been mounted.
      if (drawn.length === count) setTimeout(() => (window.drawn = drawn), 1000);
    },
  };
  const drawn = [];
  const count = dashboard.panels.filter((panel) => panel.type !== 'row').length;
  context.variables = await variablesOf(dashboard, context);
  await Promise.all(['400 1em Inter', '500 1em Inter'].map((font) => document.fonts.load(font)));
  document.documentElement.style.background = theme.colors.background.canvas;
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Dashboard {...{ dashboard, context }} />
      <PortalContainer />
    </ThemeContext.Provider>,
  );
}

start().catch((mistake) => {
  window.drawn = [{ title: 'the page', mistakes: [String(mistake.stack ?? mistake)], empty: [] }];
});
