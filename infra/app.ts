import { App } from 'aws-cdk-lib/core';
import { addPipelines, appProps } from './synth.ts';

/** What `cdk deploy` runs. Pipelines: `cdk deploy -c pipelines=orders.yaml,customers.ts`. */
const app = new App(appProps);
const pipelines = app.node.tryGetContext('pipelines') as string | readonly string[];
await addPipelines(
  app,
  [pipelines].flat().flatMap((files) => files.split(',')),
);
app.synth();
