/** Names of connectors, pipelines and topics. No `#`: it ends a name in every key and IAM pattern. */
export const namePattern = /^[A-Za-z0-9._-]{1,200}$/;
