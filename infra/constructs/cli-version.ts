import { refused } from '../problems.ts';

/** `aws-cdk` 3.0.0 was published by accident: it is older than 2.x and can't read what this library writes. */
export const requireCli = (): void => {
  if (!process.env.CDK_CLI_VERSION?.startsWith('3.0.0')) return;
  throw refused(
    'this is aws-cdk 3.0.0, which was published by accident and can deploy no app of today: npm install --save-dev aws-cdk@2.1148.1, and run it by npx cdk',
  );
};
