// From frames to what a panel shows: its transformations, its field configuration, and the
// defaults that a Grafana server adds to both.

import { applyFieldOverrides, cacheFieldDisplayNames, FieldType } from '@grafana/data';
import { Registry, transformDataFrame } from '@grafana/data';
import { standardTransformers, standardTransformersRegistry } from '@grafana/data';
import { lastValueFrom } from 'rxjs';

// Some stand there under two names.
standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((info) => [info.id, info])).values()].map(
    (info) => ({ ...info, transformation: () => info }),
  ),
);

// What the panel plugins of a Grafana server set when the dashboard does not. They are no part of
// the component library.
const CUSTOM_DEFAULTS = {
  timeseries: {
    drawStyle: 'line',
    lineInterpolation: 'linear',
    lineWidth: 1,
    fillOpacity: 0,
    gradientMode: 'none',
    showPoints: 'auto',
    pointSize: 5,
    stacking: { mode: 'none', group: 'A' },
    axisPlacement: 'auto',
    axisGridShow: true,
  },
};

const COLOR_DEFAULT = { stat: { mode: 'thresholds' }, timeseries: { mode: 'palette-classic' } };

const THRESHOLDS_DEFAULT = {
  mode: 'absolute',
  steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }],
};

// Which properties a panel's defaults and overrides may set.
const properties = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'mappings',
  'thresholds', 'color', 'links', 'description'];
const custom = ['drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity',
  'gradientMode', 'showPoints', 'pointSize', 'spanNulls', 'stacking', 'axisPlacement', 'axisLabel',
  'axisGridShow', 'axisSoftMin', 'axisSoftMax', 'axisWidth', 'scaleDistribution', 'thresholdsStyle',
  'hideFrom', 'transform', 'align', 'cellOptions', 'width', 'minWidth', 'filterable', 'inspect',
  'hidden', 'wrapText'];
const asItIs = (value) => value;
const property = (isCustom) => (path) => ({
  id: isCustom ? `custom.${path}` : path,
  name: path,
  path,
  isCustom,
  process: asItIs,
  // What is said of the values' axis is not said of the times'.
  shouldApply: ({ type }) => !isCustom || type !== FieldType.time,
});
const registry = new Registry(() => [
  ...properties.map(property(false)),
  ...custom.map(property(true)),
]);

/** The frames as the panel's drawing wants them. */
export async function shown(panel, frames, { theme, timeZone }) {
  const transformed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames));
  const configured = applyFieldOverrides({
    data: transformed,
    fieldConfig: fieldConfigOf(panel),
    fieldConfigRegistry: registry,
    replaceVariables: asItIs,
    theme,
    timeZone,
  });
  cacheFieldDisplayNames(configured);
  return configured;
}

/** The panel's field configuration with the defaults. */
export function fieldConfigOf({ type, fieldConfig }) {
  const { defaults, overrides } = fieldConfig;
  return {
    overrides,
    defaults: {
      color: COLOR_DEFAULT[type],
      ...defaults,
      thresholds: withoutNull(defaults.thresholds) ?? THRESHOLDS_DEFAULT,
      custom: { ...CUSTOM_DEFAULTS[type], ...defaults.custom },
    },
  };
}

/** The lowest step's value is null in JSON, which has no infinity. */
function withoutNull(thresholds) {
  const steps = thresholds?.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  return thresholds && { ...thresholds, steps };
}
