import type { Duration, RemovalPolicy, Size } from 'aws-cdk-lib/core';
import type { Delivery } from '../../shared/connect/connector.ts';
import type { Sink, Source } from '../connectors.ts';
import type { ProcessorNode, SourceNode } from './connector.ts';
import type { NetworkProps } from './network.ts';
import type { IPlatform } from './platform-use.ts';
import type { Trigger } from './trigger.ts';

export interface TopicProps {
  /**
   * Ordered lanes; a key always goes to the same one. At most 32.
   *
   * @default - 1
   */
  readonly queues?: number;

  /**
   * How long a record can be read.
   *
   * @default - 7 days
   */
  readonly retention?: Duration;

  /**
   * What its slowest reader may leave unread, uncompressed, before the sources that write it are held. They go on below half of it. A
   * source whose system would pile up meanwhile (change capture) is not held; an alarm tells.
   *
   * @default - no limit
   */
  readonly maxBacklog?: Size;
}

export interface PipelineProps {
  /** Where its connectors keep state and data. */
  readonly platform: IPlatform;

  /** The first part of its connectors' names: `orders` makes `orders-<node>`. */
  readonly name: string;

  /**
   * Options of topics that this pipeline writes, by name.
   *
   * @default - every topic has one queue and keeps records for 7 days
   */
  readonly topics?: { readonly [topic: string]: TopicProps };

  /**
   * Topics that somebody outside this app writes. Their readers get the right to read the objects of every connector, as nobody
   * can say whose they need.
   *
   * @default - none: a topic that no source or processor of the app writes is refused
   */
  readonly externalTopics?: readonly string[];

  /**
   * What becomes of its connectors' offsets when they leave the stack. RETAIN: they stay in the table, and a connector of the same
   * name goes on from them, in whatever stack it comes; what the connector has made upstream stays, too.
   *
   * @default - RemovalPolicy.DESTROY: a connector that comes again starts anew
   */
  readonly removalPolicy?: RemovalPolicy;
}

/** What becomes of records that fail: Kafka Connect's `errors.*`. */
export interface ErrorProps {
  /**
   * `none`: a record that can never be written fails the task; `all`: it goes to the dead letters and the rest goes on.
   *
   * @default - all with dead letters, none without
   */
  readonly tolerance?: 'none' | 'all';

  /**
   * How long a retriable error is retried within one run.
   *
   * @default - not at all; the next run tries again
   */
  readonly retryTimeout?: Duration;

  /**
   * The longest wait between two tries.
   *
   * @default - one minute
   */
  readonly retryDelayMax?: Duration;

  /**
   * The topic that rejected records go to.
   *
   * @default - `<connector>.dlq` with `deadLetter`, none without
   */
  readonly deadLetterTopic?: string;
}

export interface ConnectorOptions extends NetworkProps {
  /**
   * Files in TypeScript or JavaScript whose default export is a transform, or a list of them; records go through them in this order. A
   * relative path is from the working directory, as the `entry` of a `NodejsFunction` is. Or the name of one that comes with Sluice: `unwrap`, `to-canal-json`, `from-canal-json`.
   *
   * @default - none
   */
  readonly transforms?: readonly string[];

  /**
   * Tasks that run at the same time, each with its share of the work.
   *
   * @default - 1
   */
  readonly tasks?: number;

  /** @default - the first record that can't be written fails the task */
  readonly errors?: ErrorProps;

  /**
   * Keeps rejected records in a topic `<connector>.dlq`, and goes on.
   *
   * @default - false
   */
  readonly deadLetter?: boolean;

  /**
   * Records of one batch.
   *
   * @default - 20,000
   */
  readonly maxRecords?: number;

  /**
   * Bytes of one batch, uncompressed.
   *
   * @default - 8 MB
   */
  readonly maxBytes?: number;

  /**
   * Fails the deploy where the connector's own check finds a problem: a bucket that is not there, a login that is refused, a table
   * that does not fit. Otherwise problems are only told, and the connector starts when they are mended.
   *
   * @default - true; false on the local host, which shows them while it runs
   */
  readonly check?: boolean;

  /**
   * Memory of its function.
   *
   * @default - 512
   */
  readonly memoryMb?: number;

  /**
   * How long one run of its function may take.
   *
   * @default - 2 minutes
   */
  readonly timeout?: Duration;
}

export interface SourceProps extends ConnectorOptions {
  /** What it reads: `fileSource({ path: … })`. */
  readonly connector: Source;

  /** What starts its runs. */
  readonly trigger: Trigger;
}

/** Where records of the log come from: a node of any pipeline on the platform, or a topic's name. */
export type From = SourceNode | ProcessorNode | string;

export interface SinkProps extends ConnectorOptions {
  /** What it reads. */
  readonly from: readonly From[];

  /** What it writes: `postgresSink({ url: … })`. */
  readonly connector: Sink;

  /**
   * What must be given; refused where the sink can't give it.
   *
   * @default - the best that the sink can give
   */
  readonly delivery?: Delivery;

  /**
   * What starts its runs.
   *
   * @default - new data in the topics that it reads
   */
  readonly trigger?: Trigger;
}

export interface ProcessorProps extends ConnectorOptions {
  /** What it reads. */
  readonly from: readonly From[];

  /** The topic that all its records go to. */
  readonly to: string;

  /**
   * What starts its runs.
   *
   * @default - new data in the topics that it reads
   */
  readonly trigger?: Trigger;
}

export interface DirectProps extends ConnectorOptions {
  /** What it reads. */
  readonly source: Source;

  /** What it writes. */
  readonly sink: Sink;

  /** What starts its runs. */
  readonly trigger: Trigger;

  /**
   * What must be given; refused where the pair can't give it.
   *
   * @default - the best that the pair can give
   */
  readonly delivery?: Delivery;
}
