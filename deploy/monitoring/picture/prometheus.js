// What Grafana's Prometheus data source does: it fills in the variables, chooses the step, sends
// the queries, and turns the results into data frames.

import { FieldType, rangeUtil, toDataFrame } from '@grafana/data';

async function get(context, path, parameters) {
  const url = `${context.prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`;
  const { status, data, error } = await (await fetch(url)).json();
  if (status !== 'success') throw new Error(`${error} in ${JSON.stringify(parameters)}`);
  return data;
}

/** Each variable's value, which is all of its values. A variable without values is a mistake. */
export async function variablesOf(dashboard, context) {
  const variables = {};
  for (const { name, type, query, allValue, current } of dashboard.templating.list) {
    if (type !== 'query') continue;
    const [, selector, label] = query.query.match(/^label_values\((.*), *(\w+)\)$/);
    const values = await get(context, `label/${label}/values`, {
      'match[]': filledIn(selector, variables),
      start: context.timeRange.from.valueOf() / 1000,
      end: context.timeRange.to.valueOf() / 1000,
    });
    if (values.length === 0) throw new Error(`the variable ${name} has no values: ${query.query}`);
    variables[name] = current.value === '$__all' ? allValue : current.value;
  }
  return variables;
}

function filledIn(text, variables) {
  return text.replaceAll(/\$\{?(\w+)\}?/g, (whole, name) => variables[name] ?? whole);
}

/** The step and the variables that depend on it, for a panel of this width. */
function intervalOf(width, { timeRange, scrapeMs }) {
  const { interval, intervalMs } = rangeUtil.calculateInterval(timeRange, width, `${scrapeMs}ms`);
  const rateMs = Math.max(intervalMs + scrapeMs, 4 * scrapeMs);
  const rangeSeconds = Math.round((timeRange.to - timeRange.from) / 1000);
  return {
    intervalMs,
    variables: {
      __interval: interval,
      __rate_interval: `${rateMs}ms`,
      __range: `${rangeSeconds}s`,
    },
  };
}

/** Answers all queries of a panel: the frames, and the queries that found nothing. */
export async function framesOf(panel, width, context) {
  const { intervalMs, variables } = intervalOf(width, context);
  const found = { frames: [], empty: [], mistakes: [] };
  for (const target of panel.targets) {
    const query = filledIn(target.expr, { ...context.variables, ...variables });
    const kinds = [];
    // Without either word a query is one over the range.
    if (target.range ?? !target.instant) kinds.push(rangeQuery);
    if (target.instant) kinds.push(instantQuery);
    for (const ask of kinds) {
      const series = await ask(context, query, intervalMs);
      const numbers = series.flatMap(({ values }) => values.map(([, value]) => numberOf(value)));
      if (numbers.every(Number.isNaN)) found.empty.push(target.refId);
      found.frames.push(...toFrames(target, series, intervalMs, panel.targets.length));
    }
  }
  return found;
}

async function rangeQuery(context, query, intervalMs) {
  const step = intervalMs / 1000;
  const aligned = (time) => Math.floor(time.valueOf() / intervalMs) * step;
  const { from, to } = context.timeRange;
  const parameters = { query, step, start: aligned(from), end: aligned(to) };
  const { result } = await get(context, 'query_range', parameters);
  return result.map(({ metric, values }) => ({ metric, values }));
}

async function instantQuery(context, query) {
  const time = context.timeRange.to.valueOf() / 1000;
  const { result } = await get(context, 'query', { query, time });
  return result.map(({ metric, value }) => ({ metric, values: [value] }));
}

/** Prometheus writes numbers as text, and infinity as +Inf. */
function numberOf(text) {
  return Number(text.replace('Inf', 'Infinity'));
}

function toFrames(target, series, intervalMs, targetCount) {
  switch (target.format) {
    case 'table':
      return [tableOf(target, series, targetCount)];
    case 'heatmap':
      return [bucketsOf(target, series, intervalMs)];
    default:
      return series.map((one) => seriesOf(target, one, intervalMs));
  }
}

function timeField(times, intervalMs) {
  return { name: 'Time', type: FieldType.time, config: { interval: intervalMs }, values: times };
}

function seriesOf({ refId, legendFormat }, { metric, values }, intervalMs) {
  const labels = { ...metric };
  delete labels.__name__;
  const isNamed = legendFormat && legendFormat !== '__auto';
  const named = legendFormat?.replaceAll(/{{\s*(\w+)\s*}}/g, (_, label) => metric[label] ?? '');
  const config = isNamed ? { displayNameFromDS: named } : {};
  const numbers = values.map(([, value]) => numberOf(value));
  const times = values.map(([time]) => time * 1000);
  return toDataFrame({
    refId,
    fields: [
      timeField(times, intervalMs),
      { name: 'Value', type: FieldType.number, labels, config, values: numbers },
    ],
  });
}

/** A line per value: its time, a column for each label, and the value. */
function tableOf({ refId }, series, targetCount) {
  const rows = series.flatMap(({ metric, values }) => values.map((value) => ({ metric, value })));
  const names = [...new Set(rows.flatMap(({ metric }) => Object.keys(metric)))].toSorted();
  const columns = names.map((name) => ({
    name,
    type: FieldType.string,
    values: rows.map(({ metric }) => metric[name] ?? ''),
  }));
  const times = rows.map(({ value }) => value[0] * 1000);
  const numbers = rows.map(({ value }) => numberOf(value[1]));
  const name = targetCount > 1 ? `Value #${refId}` : 'Value';
  const valueField = { name, type: FieldType.number, values: numbers };
  return toDataFrame({ refId, fields: [timeField(times), ...columns, valueField] });
}

/** Cumulative buckets become counts: one field per bucket, the lowest first. */
function bucketsOf({ refId }, series, intervalMs) {
  const bound = ({ metric }) => numberOf(metric.le);
  const sorted = series.toSorted((a, b) => bound(a) - bound(b));
  const all = sorted.flatMap(({ values }) => values.map(([time]) => time));
  const times = [...new Set(all)].toSorted((a, b) => a - b);
  const counts = sorted.map(({ values }) => {
    const at = new Map(values.map(([time, value]) => [time, numberOf(value)]));
    return times.map((time) => at.get(time) ?? 0);
  });
  const fields = sorted.map(({ metric }, index) => ({
    name: metric.le,
    type: FieldType.number,
    labels: metric,
    values: counts[index].map((count, at) => Math.max(0, count - (counts[index - 1]?.[at] ?? 0))),
  }));
  const time = timeField(times.map((seconds) => seconds * 1000), intervalMs);
  return toDataFrame({ refId, fields: [time, ...fields] });
}
