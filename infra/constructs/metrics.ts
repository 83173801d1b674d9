import { Metric, type MetricOptions } from 'aws-cdk-lib/aws-cloudwatch';
import { FilterPattern, type ILogGroup, MetricFilter } from 'aws-cdk-lib/aws-logs';
import type { Construct } from 'constructs';

const namespace = 'Sluice';

/** What a connector's runs say of themselves, in the line that each writes to its log. */
const figures = {
  records: 'Records',
  bytes: 'Bytes',
  batches: 'Batches',
  rejected: 'RejectedRecords',
} as const;
export type FigureOfRuns = keyof typeof figures;

interface LogMetric {
  readonly id: string;
  readonly logGroup: ILogGroup;
  readonly message: string;
  readonly field: string;
  readonly metricName: string;
  readonly connector: string;
  readonly statistic: string;
}

/** A metric of a field of log lines. Its filter is made once, by whoever asks first: each costs. */
const logMetric = (
  scope: Construct,
  { id, logGroup, message, field, metricName, connector, statistic }: LogMetric,
  options?: MetricOptions,
): Metric => {
  if (scope.node.tryFindChild(id) === undefined)
    new MetricFilter(scope, id, {
      logGroup,
      filterPattern: FilterPattern.all(
        FilterPattern.stringValue('$.message', '=', message),
        FilterPattern.stringValue('$.connector', '=', connector),
      ),
      metricNamespace: namespace,
      metricName,
      metricValue: `$.${field}`,
      dimensions: { Connector: '$.connector' },
    });
  return new Metric({ namespace, metricName, dimensionsMap: { Connector: connector }, statistic, ...options });
};

export const runMetric = (
  scope: Construct,
  logGroup: ILogGroup,
  connector: string,
  figure: FigureOfRuns,
  options?: MetricOptions,
): Metric => {
  const metricName = figures[figure];
  const metric = { id: `Metric${metricName}`, message: 'run', field: figure, metricName, statistic: 'Sum' };
  return logMetric(scope, { ...metric, logGroup, connector }, options);
};

/** How far a connector is behind, in the line that says so. */
const figuresOfLag = {
  records: 'LagRecords',
  bytes: 'LagBytes',
  behindMs: 'LagMilliseconds',
  retainedBytes: 'RetainedBytes',
  retainedShare: 'RetainedShare',
} as const;
export type FigureOfLag = keyof typeof figuresOfLag;

export const lagMetric = (
  scope: Construct,
  logGroup: ILogGroup,
  connector: string,
  figure: FigureOfLag,
  options?: MetricOptions,
): Metric => {
  const metricName = figuresOfLag[figure];
  const metric = { id: `Metric${metricName}`, message: 'lag', field: figure, metricName, statistic: 'Maximum' };
  return logMetric(scope, { ...metric, logGroup, connector }, options);
};
