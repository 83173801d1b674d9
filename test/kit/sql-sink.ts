import type { SinkTask } from '../../shared/connect/connector.ts';
import type { Struct, Value } from '../../shared/connect/schema.ts';

/** What a sink's fixture gives of a database that is empty for each test. */
export interface SqlSink {
  openSink(config?: Struct, connector?: string): Promise<SinkTask>;
  withSink<T>(config: Struct, work: (task: SinkTask) => Promise<T>): Promise<T>;
  run(sql: string): Promise<unknown>;
  /** In a session of its own. */
  all(sql: string): Promise<Value[][]>;
  port(): number;
  /** The config that reaches the server through another port. */
  through(port: number): Struct;
  /** Tables of the test's own database. */
  tables(): Promise<readonly string[]>;
}
