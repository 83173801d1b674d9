/** What a pipeline elsewhere, or the command line, has to know of a platform, each under `/sluice/<name>/<key>`. */
export interface PlatformParameters {
  readonly table: string;
  readonly bucket: string;
  readonly 'deploy-function': string;
  readonly 'coordinator-function': string;
  readonly 'coordinator-logs': string;
  readonly 'dispatcher-role': string;
  readonly 'coordinator-role': string;
  readonly 'deploy-role': string;
  readonly 'scheduler-role': string;
}

export const parameterName = (platform: string, key: keyof PlatformParameters): string => `/sluice/${platform}/${key}`;
