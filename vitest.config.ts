import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    // As the package's own exports say, of the sources.
    alias: [
      { find: /^sluice$/, replacement: here('infra/index.ts') },
      { find: /^sluice\/connect\/(.*)$/, replacement: here('shared/connect/$1.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two workers: the machines this project is built on have two cores, and real servers run beside the tests.
    maxWorkers: 2,
    env: {
      // The CloudFormation validator takes seconds per synth; one test turns it on.
      CDK_VALIDATION: 'false',
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: 'local',
      AWS_SECRET_ACCESS_KEY: 'local',
    },
  },
});
