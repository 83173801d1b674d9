/** The name of a pipeline's connector. A node that is called like its pipeline is the pipeline, and does not say it twice. */
export const connectorName = (pipeline: string, node: string): string =>
  node === pipeline ? pipeline : `${pipeline}-${node}`;
