import { App } from 'aws-cdk-lib/core';
import { ConnectError } from '../shared/connect/errors.ts';
import { addPipelines, appProps } from './synth.ts';

/** What `cdk deploy` runs: `npx cdk deploy -c pipelines=orders.yaml,customers.ts`, and `-c platform=test` for a second platform. */
const main = async (): Promise<void> => {
  const app = new App(appProps);
  const given = app.node.tryGetContext('pipelines') as string | readonly string[] | undefined;
  if (given === undefined)
    throw new ConnectError(
      'CONFIG_INVALID',
      'which pipelines? Name their files: -c pipelines=orders.yaml,customers.ts',
    );
  await addPipelines(
    app,
    [given].flat().flatMap((files) => files.split(',')),
  );
  app.synth();
};

try {
  await main();
} catch (thrown) {
  // What the user has to correct, and not where in our code it was found.
  if (!(thrown instanceof ConnectError)) throw thrown;
  process.stderr.write(`${thrown.message}\n`);
  process.exitCode = 1;
}
