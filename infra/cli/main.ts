import { Command, InvalidArgumentError, Option } from 'commander';
import { answerWith } from './output.ts';

/** The commands. What a command needs is imported when it runs: `sluice status` must not wait for the CDK. */
export const main = async (argv: readonly string[]): Promise<void> => {
  const program = new Command('sluice')
    .description('Data integration with no servers to run')
    .showHelpAfterError()
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));
  addRun(program);
  addLook(program);
  addVerify(program);
  addOffsets(program.command('offsets').description('where a connector stands'));
  addTopics(program.command('topics').description('the topic log'));
  addConnectors(program.command('connectors').description('pause, resume, stop, restart'));
  await program.parseAsync(argv);
};

const stateOption = () =>
  new Option('--state <directory>', 'where tables, objects and positions are kept').default('.sluice');
const jsonOption = () => new Option('--json', 'one JSON answer instead of text');

interface Options {
  readonly state: string;
  readonly platform?: string;
  readonly json?: boolean;
}

const command = (parent: Command, usage: string, description: string): Command =>
  parent.command(usage).description(description).addOption(stateOption()).addOption(jsonOption());

/** Of a platform that is there already, here or on AWS. */
const lookCommand = (parent: Command, usage: string, description: string): Command =>
  command(parent, usage, description).option('--platform <name>', 'one on AWS, by its name, instead of the one here');

const addRun = (program: Command): void => {
  command(program, 'run <file...>', 'run pipelines until they are drained: YAML, or the JSON of one connector')
    .option(
      '--chaos [seed]',
      'kill, pause, throttle, lose, double and delay, by a seed: nothing of it must show in the result',
      wholeNumber,
    )
    .action(async (files: string[], { chaos, ...options }: Options & { chaos?: number | true }) => {
      const { run } = await import('./run.ts');
      const seed = chaos === true ? Date.now() % 1_000_000 : chaos;
      await interruptible('run', options, (signal) =>
        run(files, { ...options, ...(seed === undefined ? {} : { chaos: seed }) }, signal),
      );
    });
  command(program, 'dev <file...>', 'run pipelines until you stop them').action(
    async (files: string[], options: Options) => {
      const { dev } = await import('./dev.ts');
      await interruptible('dev', options, (signal) => dev(files, options, signal));
    },
  );
  command(program, 'validate <file...>', 'name every problem of pipeline files').action(
    (files: string[], options: Options) =>
      answerWith('validate', options, async () => (await import('./validate.ts')).validate(files)),
  );
  command(program, 'estimate <file...>', 'what pipelines cost a month on AWS')
    .option('--rows-per-day <rows>', 'how many rows come in a day, all sources together')
    .option('--row-bytes <bytes>', 'how large a row is', '300')
    .action((files: string[], options: Options & { rowsPerDay?: string; rowBytes: string }) =>
      answerWith('estimate', options, async () =>
        (await import('./estimate.ts')).estimate(files, {
          ...(options.rowsPerDay === undefined ? {} : { rowsPerDay: Number(options.rowsPerDay) }),
          rowBytes: Number(options.rowBytes),
        }),
      ),
    );
  command(program, 'infer <file>', 'read a whole file and print its fields to paste').action(
    (file: string, options: Options) =>
      answerWith('infer', options, async () => (await import('./infer.ts')).infer(file)),
  );
};

const wholeNumber = (text: string): number => {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('a whole number of at most 9 digits');
};

const addLook = (program: Command): void => {
  lookCommand(program, 'status', 'every connector and its tasks').action((options: Options) =>
    answerWith('status', options, async () => (await import('./connectors.ts')).status(options)),
  );
};

const addVerify = (program: Command): void => {
  lookCommand(program, 'verify [file]', 'compare the rows of a pipeline’s sources and sinks, while it runs')
    .option('--connector <name...>', 'instead of a file: the sinks and direct connectors, which run')
    .option('--table <table>', 'only this table of the source')
    .option('--values', 'show the values that differ')
    .option('--repair', 'have the source send the rows that differ again')
    .action(
      (
        file: string | undefined,
        options: Options & { connector?: string[]; table?: string; values?: boolean; repair?: boolean },
      ) =>
        interruptible('verify', options, async (signal) => (await import('./verify.ts')).verify(file, options, signal)),
    );
};

const addTopics = (topics: Command): void => {
  lookCommand(topics, 'list', 'all topics').action((options: Options) =>
    answerWith('topics list', options, async () => (await import('./topics.ts')).listTopics(options)),
  );
  lookCommand(topics, 'describe <topic>', 'its queues and where they stand').action((topic: string, options: Options) =>
    answerWith('topics describe', options, async () => (await import('./topics.ts')).describeTopic(options, topic)),
  );
  lookCommand(topics, 'tail <topic>', 'its last records as JSON lines')
    .option('-n, --limit <records>', 'how many', '10')
    .option('--from-beginning', 'the first records instead')
    .action((topic: string, options: Options & { limit: string; fromBeginning?: boolean }) =>
      answerWith('topics tail', options, async () =>
        (await import('./topics.ts')).tailTopic(options, topic, {
          limit: Number(options.limit),
          fromBeginning: options.fromBeginning === true,
        }),
      ),
    );
};

const addOffsets = (offsets: Command): void => {
  lookCommand(offsets, 'get <connector>', 'its committed offsets').action((name: string, options: Options) =>
    answerWith('offsets get', options, async () => (await import('./offsets.ts')).showOffsets(options, name)),
  );
  lookCommand(offsets, 'set <connector> <partition> <offset>', 'one offset, both as JSON as `get` shows them').action(
    (name: string, partition: string, offset: string, options: Options) =>
      answerWith('offsets set', options, async () =>
        (await import('./offsets.ts')).setOffset(options, name, partition, offset),
      ),
  );
  lookCommand(offsets, 'reset <connector>', 'all offsets back to the beginning').action(
    (name: string, options: Options) =>
      answerWith('offsets reset', options, async () => (await import('./offsets.ts')).resetAllOffsets(options, name)),
  );
};

const addConnectors = (connectors: Command): void => {
  for (const verb of ['pause', 'resume', 'stop', 'restart'] as const)
    lookCommand(connectors, `${verb} <connector>`, `${verb} a connector`).action((name: string, options: Options) =>
      answerWith(`connectors ${verb}`, options, async () =>
        (await import('./connectors.ts')).changeConnector(options, verb, name),
      ),
    );
};

/** Ctrl-C ends the command after what is in progress, a second one at once. */
const interruptible = async (
  name: string,
  options: Options,
  run: (signal: AbortSignal) => ReturnType<Parameters<typeof answerWith>[2]>,
): Promise<void> => {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(new Error('interrupted'));
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  await answerWith(name, options, () => run(controller.signal));
  process.off('SIGINT', stop).off('SIGTERM', stop);
};
