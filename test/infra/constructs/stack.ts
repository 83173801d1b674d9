import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Template } from 'aws-cdk-lib/assertions';
import { App, Stack } from 'aws-cdk-lib/core';
import { Platform, type PlatformProps } from '../../../infra/constructs/platform.ts';
import { appProps } from '../../../infra/synth.ts';

/**
 * A stack with a platform whose functions hold nothing: what the bundles hold is no matter of the template. For the local host, whose
 * functions see this machine's files; `deployed` for AWS.
 */
export const platformStack = (
  props: PlatformProps = {},
  context: Record<string, unknown> = { 'sluice:local': true },
) => {
  const app = new App({ ...appProps, context });
  const stack = new Stack(app, 'Stack');
  const platform = new Platform(stack, 'Platform', { bundle: emptyBundle, ...props });
  return { app, stack, platform, template: () => Template.fromStack(stack) };
};

export const deployed = {};

const bundles = mkdtempSync(join(tmpdir(), 'sluice-bundles-'));

export const emptyBundle = ({ name }: { readonly name: string }): string => {
  const directory = join(bundles, name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'index.mjs'), `export const handler = async () => '${name}';\n`);
  return directory;
};

/** The message of what a function throws. */
export const messageOf = (run: () => unknown): string => {
  try {
    run();
  } catch (thrown) {
    return (thrown as Error).message;
  }
  throw new Error('expected an error');
};
