/**
 * List prices in dollars, us-east-1, without the free tier, as of November 2026. Sources: AWS Lambda pricing (arm64),
 * DynamoDB on-demand pricing, S3 standard pricing.
 */
export const prices = {
  invocation: 0.2 / 1e6,
  gbSecond: 0.0000133334,
  writeUnit: 0.625 / 1e6,
  readUnit: 0.125 / 1e6,
  objectPut: 5 / 1e6,
} as const;
