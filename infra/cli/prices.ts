/**
 * List prices in dollars, us-east-1, November 2026, without a free tier. All that is paid for stands here, each with where the figure
 * was read; check those that matter to you, prices change.
 */
export const pricesAsOf = 'November 2026';

export const prices = {
  /** AWS Lambda pricing: $0.20 per million. */
  invocations: { service: 'Lambda', dollars: 0.2e-6 },
  /** AWS Lambda pricing, arm64. */
  gbSeconds: { service: 'Lambda', dollars: 0.0000133334 },
  /** DynamoDB on-demand pricing since November 2024: $0.625 per million write units of 1 KB; a transaction takes two. */
  writeUnits: { service: 'DynamoDB', dollars: 0.625e-6 },
  /** DynamoDB on-demand pricing: $0.125 per million read units of 4 KB; half of one for an eventual read. */
  readUnits: { service: 'DynamoDB', dollars: 0.125e-6 },
  /** DynamoDB pricing: $0.25 per GB stored, $0.20 more for point-in-time recovery. */
  tableGbMonths: { service: 'DynamoDB', dollars: 0.45 },
  /** S3 standard pricing: $0.005 per 1,000 PUT, COPY, POST and LIST. */
  objectWrites: { service: 'S3', dollars: 5e-6 },
  /** S3 standard pricing: $0.0004 per 1,000 GET and the rest. */
  objectReads: { service: 'S3', dollars: 0.4e-6 },
  /** S3 standard pricing, the first 50 TB. */
  objectGbMonths: { service: 'S3', dollars: 0.023 },
  /** CloudWatch pricing: $0.50 per GB of logs taken in. */
  logGb: { service: 'CloudWatch', dollars: 0.5 },
  /** CloudWatch pricing: $0.10 per standard alarm; ten are free in every account, always. */
  alarms: { service: 'CloudWatch', dollars: 0.1, free: 10 },
  /** EventBridge pricing: $1.00 per million; 14 million a month are free in every account, always. */
  scheduled: { service: 'Scheduler', dollars: 1e-6, free: 14e6 },
  /** Secrets Manager pricing. */
  secrets: { service: 'Secrets Manager', dollars: 0.4 },
} as const satisfies Record<string, { service: string; dollars: number; free?: number }>;

export type Priced = keyof typeof prices;

/** How much of what is used; what is left out is none. */
export type Usage = { readonly [item in Priced]?: number };

/** What it costs. What every account has free for ever is left out: alarms and schedules, not the year that new accounts get. */
export const dollarsOf = (usage: Usage): number => {
  let dollars = 0;
  for (const [item, amount] of Object.entries(usage) as [Priced, number][]) {
    const price: { readonly dollars: number; readonly free?: number } = prices[item];
    dollars += Math.max(0, amount - (price.free ?? 0)) * price.dollars;
  }
  return dollars;
};

export const addUsage = (...all: readonly Usage[]): Usage => {
  const sum: Record<string, number> = {};
  for (const usage of all) for (const [item, amount] of Object.entries(usage)) sum[item] = (sum[item] ?? 0) + amount;
  return sum;
};
