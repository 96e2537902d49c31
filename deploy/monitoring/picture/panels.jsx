// The panels that are drawn by components of @grafana/ui alone.

import { getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BigValue, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { fieldConfigOf } from './fields.js';

export function Series({ panel, frames, width, height, context }) {
  const { timeRange, timeZone } = context;
  const { legend } = panel.options;
  return <TimeSeries {...{ frames, width, height, timeRange, timeZone, legend }} />;
}

export function Stat({ panel, frames, width, height, context }) {
  const { reduceOptions, orientation, graphMode, colorMode, justifyMode, textMode } = panel.options;
  const { theme, timeZone } = context;
  const getValues = () =>
    getFieldDisplayValues({
      fieldConfig: fieldConfigOf(panel),
      reduceOptions,
      replaceVariables: (text) => text,
      theme,
      timeZone,
      data: frames,
      sparkline: graphMode !== 'none',
    });
  const renderValue = ({ value, width, height, alignmentFactors, count }) => (
    <BigValue
      {...{ width, height, count, alignmentFactors, theme }}
      {...{ colorMode, graphMode, justifyMode, textMode }}
      value={value.display}
      sparkline={value.sparkline}
    />
  );
  return (
    <VizRepeater
      {...{ width, height, orientation, getValues, renderValue }}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      source={frames}
      renderCounter={1}
      autoGrid
    />
  );
}

export function TableOf({ panel, frames, width, height, context }) {
  const { cellHeight, showHeader } = panel.options;
  const { timeRange } = context;
  return (
    <TableNG
      {...{ width, height, cellHeight, timeRange }}
      data={frames[0]}
      noHeader={!showHeader}
      fieldConfig={fieldConfigOf(panel)}
    />
  );
}
