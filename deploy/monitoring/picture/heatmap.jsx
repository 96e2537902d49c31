// The heatmap. The component library has none, so this draws the cells itself on the library's
// axes: one cell per step and bucket, coloured by its count from the lowest to the highest.

import { colorManipulator, formattedValueToString, getValueFormat } from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation } from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder } from '@grafana/ui';
import * as chromatic from 'd3-scale-chromatic';
import { useMemo } from 'react';

const LEGEND_HEIGHT = 34;

export function Heatmap({ panel, frames, width, height, context }) {
  const { color, cellGap, legend, yAxis } = panel.options;
  const paint = paintOf(color, context.theme);
  const [time, ...buckets] = frames[0].fields;
  const format = (value) => formattedValueToString(getValueFormat(yAxis.unit)(value));
  const counts = buckets.flatMap((bucket) => bucket.values).filter((count) => count > 0);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const config = useMemo(() => {
    const builder = new UPlotConfigBuilder(context.timeZone);
    addAxes(builder, buckets, format, context);
    const shareOf = (count) => (most > least ? (count - least) / (most - least) : 1);
    const fill = (count) => (count > 0 ? paint(shareOf(count)) : null);
    builder.addHook('draw', (plot) => drawCells(plot, { time, buckets, fill, cellGap }));
    return builder;
  }, []);
  const chartHeight = height - (legend.show ? LEGEND_HEIGHT : 0);
  return (
    <>
      <UPlotChart {...{ config, width }} height={chartHeight} data={[time.values]} />
      {legend.show && <Legend {...{ paint, least, most, width }} />}
    </>
  );
}

/** The colour of a count, given as its share of the way from the lowest count to the highest. */
function paintOf({ mode, fill, scale, exponent, scheme, reverse }, theme) {
  if (mode === 'opacity') {
    const full = theme.visualization.getColorByName(fill);
    const power = scale === 'exponential' ? exponent : 1;
    return (share) => colorManipulator.alpha(full, share ** power);
  }
  // As in Grafana, few is dark in the dark theme and light in the light one.
  const isInverted = theme.isDark !== Boolean(reverse);
  return (share) => chromatic[`interpolate${scheme}`](isInverted ? 1 - share : share);
}

function addAxes(builder, buckets, format, { theme, timeRange, timeZone }) {
  builder.addScale({
    scaleKey: 'x',
    isTime: true,
    orientation: ScaleOrientation.Horizontal,
    direction: ScaleDirection.Right,
    range: () => [timeRange.from.valueOf(), timeRange.to.valueOf()],
  });
  const isTime = true;
  builder.addAxis({ scaleKey: 'x', isTime, placement: AxisPlacement.Bottom, timeZone, theme });
  builder.addScale({
    scaleKey: 'y',
    orientation: ScaleOrientation.Vertical,
    direction: ScaleDirection.Up,
    range: () => [0, buckets.length],
  });
  // The upper bound of each bucket is at its upper edge; not every one has room.
  const every = Math.ceil(buckets.length / 10);
  const edges = buckets.map((_, index) => index + 1).filter((edge) => edge % every === 0);
  const label = (edge) => format(Number(buckets[edge - 1].name.replace('Inf', 'Infinity')));
  builder.addAxis({
    scaleKey: 'y',
    placement: AxisPlacement.Left,
    theme,
    splits: () => edges,
    values: (_, splits) => splits.map(label),
  });
}

function drawCells(plot, { time, buckets, fill, cellGap }) {
  const stepMs = time.values[1] - time.values[0];
  const { left, top, width, height } = plot.bbox;
  plot.ctx.save();
  plot.ctx.beginPath();
  plot.ctx.rect(left, top, width, height);
  plot.ctx.clip();
  for (const [row, bucket] of buckets.entries()) {
    for (const [index, count] of bucket.values.entries()) {
      const color = fill(count);
      if (!color) continue;
      const at = time.values[index];
      const [x, right] = [at - stepMs, at].map((edge) => plot.valToPos(edge, 'x', true));
      const [bottom, y] = [row, row + 1].map((edge) => plot.valToPos(edge, 'y', true));
      plot.ctx.fillStyle = color;
      plot.ctx.fillRect(x, y, Math.max(1, right - x - cellGap), bottom - y - cellGap);
    }
  }
  plot.ctx.restore();
}

/** The scale of colours, with the counts at its ends. */
function Legend({ paint, least, most, width }) {
  const stops = [0, 0.25, 0.5, 0.75, 1].map(paint).join(', ');
  const short = (count) => formattedValueToString(getValueFormat('short')(count, 0));
  return (
    <div style={{ width: Math.min(width, 300), paddingLeft: 8, fontSize: 12 }}>
      <div style={{ height: 10, background: `linear-gradient(90deg, ${stops})` }} />
      <div style={{ display: 'flex', justifyContent: 'space-between' }}>
        <span>{short(least)}</span>
        <span>{short(most)}</span>
      </div>
    </div>
  );
}
