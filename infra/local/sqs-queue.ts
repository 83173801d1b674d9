import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, open, readFile, rename, writeFile } from 'node:fs/promises';

/** AWS::SQS::Queue, resolved. */
export interface QueueDefinition {
  name: string;
  arn: string;
  visibilityMs: number;
  delayMs: number;
  retentionMs: number;
  receiveWaitMs: number;
  deadLetter?: { arn: string; maxReceiveCount: number } | undefined;
}

/** What a sender gives; the attributes are as the API has them. */
export interface MessageContent {
  body: string;
  attributes: Record<string, MessageAttribute>;
}

export interface MessageAttribute {
  DataType: string;
  StringValue?: string | undefined;
  BinaryValue?: string | undefined;
}

export interface Message extends MessageContent {
  id: string;
  sentAtMs: number;
  visibleAtMs: number;
  receives: number;
  firstReceivedAtMs?: number;
}

export interface ReceivedMessage extends Message {
  receiptHandle: string;
}

export interface Queue {
  readonly definition: QueueDefinition;
  /** Resolves when the message survives the end of this process. */
  send(content: MessageContent, delayMs?: number): Promise<Message>;
  /** At most `max` messages, hidden for a while then; waits for the first one up to `waitMs`. */
  receive(
    max: number,
    options: { visibilityMs?: number; waitMs: number; signal?: AbortSignal },
  ): Promise<ReceivedMessage[]>;
  /** False where the handle is none of this queue. A message that is gone is deleted. */
  remove(receiptHandle: string): boolean;
  purge(): void;
  counts(): { visible: number; hidden: number; delayed: number };
  close(): Promise<void>;
}

export interface QueueOptions {
  /** The journal that its messages are kept in. */
  path: string;
  /** Takes what was received too often. */
  sendToDeadLetters: (arn: string, content: MessageContent) => Promise<unknown>;
  /** A delivery or a deletion could not be kept: the message comes again after a restart. */
  onError: (error: Error) => void;
}

type Entry = { put: Message } | { received: string } | { removed: string };

/** A standard queue: at least once, in no order that may be relied on. Messages are kept in a journal, so that they survive a restart. */
export async function openQueue(definition: QueueDefinition, options: QueueOptions): Promise<Queue> {
  const messages = await readJournal(options.path);
  const journal = await openJournal(options.path, messages);
  const waiting = new Set<() => void>();

  function wakeReceivers(): void {
    for (const wake of waiting) wake();
  }

  function note(entry: Entry): void {
    journal.write(entry, messages.size === 0).catch(options.onError);
  }

  function drop(id: string): void {
    if (messages.delete(id)) note({ removed: id });
  }

  /** What may be received now; what is too old or was received too often leaves the queue. */
  async function takeVisible(max: number, visibilityMs: number): Promise<ReceivedMessage[]> {
    const now = Date.now();
    const taken: ReceivedMessage[] = [];
    const spent: Message[] = [];
    for (const message of messages.values()) {
      if (taken.length === max) break;
      if (message.visibleAtMs > now) continue;
      if (now - message.sentAtMs > definition.retentionMs) drop(message.id);
      else if (definition.deadLetter && message.receives >= definition.deadLetter.maxReceiveCount) spent.push(message);
      else {
        message.receives += 1;
        message.firstReceivedAtMs ??= now;
        message.visibleAtMs = now + visibilityMs;
        note({ received: message.id });
        taken.push({ ...message, receiptHandle: receiptHandleOf(message) });
      }
    }
    for (const message of spent) {
      // Hidden while it moves, so that nobody else moves it too.
      message.visibleAtMs = now + visibilityMs;
      await options.sendToDeadLetters(definition.deadLetter!.arn, message);
      drop(message.id);
    }
    return taken;
  }

  /** Until a message may have become visible. */
  async function untilSomethingChanges(mostMs: number, signal: AbortSignal | undefined): Promise<void> {
    const next = Math.min(...[...messages.values()].map(({ visibleAtMs }) => visibleAtMs));
    let timer: NodeJS.Timeout | undefined;
    let wake: () => void = () => {};
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer = setTimeout(resolve, Math.max(1, Math.min(mostMs, next - Date.now())));
      waiting.add(wake);
      signal?.addEventListener('abort', wake, { once: true });
    });
    clearTimeout(timer);
    waiting.delete(wake);
    signal?.removeEventListener('abort', wake);
  }

  return {
    definition,
    async send(content, delayMs = definition.delayMs) {
      const sentAtMs = Date.now();
      const message: Message = {
        body: content.body,
        attributes: content.attributes,
        id: randomUUID(),
        sentAtMs,
        visibleAtMs: sentAtMs + delayMs,
        receives: 0,
      };
      const kept = { ...message };
      // It is there for nobody until it is kept.
      message.visibleAtMs = Number.POSITIVE_INFINITY;
      messages.set(message.id, message);
      try {
        await journal.write({ put: kept });
      } catch (error) {
        messages.delete(message.id);
        throw error;
      }
      message.visibleAtMs = kept.visibleAtMs;
      wakeReceivers();
      return kept;
    },
    async receive(max, { visibilityMs = definition.visibilityMs, waitMs, signal }) {
      const deadlineMs = Date.now() + waitMs;
      for (;;) {
        if (signal?.aborted) return [];
        const taken = await takeVisible(max, visibilityMs);
        const leftMs = deadlineMs - Date.now();
        if (taken.length > 0 || leftMs <= 0) return taken;
        await untilSomethingChanges(leftMs, signal);
      }
    },
    remove(receiptHandle) {
      const [id, ...rest] = Buffer.from(receiptHandle, 'base64url').toString().split('#');
      if (id === undefined || rest.length !== 1) return false;
      drop(id);
      return true;
    },
    purge() {
      for (const id of [...messages.keys()]) drop(id);
    },
    counts() {
      const all = [...messages.values()];
      const later = all.filter(({ visibleAtMs }) => visibleAtMs > Date.now());
      const delayed = later.filter(({ receives }) => receives === 0).length;
      return { visible: all.length - later.length, hidden: later.length - delayed, delayed };
    },
    close: () => journal.close(),
  };
}

export const md5 = (text: string): string => createHash('md5').update(text).digest('hex');

const receiptHandleOf = ({ id, receives }: Message): string => Buffer.from(`${id}#${receives}`).toString('base64url');

async function readJournal(path: string): Promise<Map<string, Message>> {
  const messages = new Map<string, Message>();
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  // The last line is whole only with its end: a process that was killed may have left a part of one.
  for (const line of text.split('\n').slice(0, -1)) {
    const entry = JSON.parse(line) as Entry;
    if ('put' in entry) messages.set(entry.put.id, entry.put);
    else if ('removed' in entry) messages.delete(entry.removed);
    else {
      const message = messages.get(entry.received);
      if (message) message.receives += 1;
    }
  }
  return messages;
}

interface Journal {
  /** `isEmpty`: nothing is left that the journal has to tell. */
  write(entry: Entry, isEmpty?: boolean): Promise<void>;
  close(): Promise<void>;
}

/** Begins anew with what is there, and is emptied whenever the queue is. */
async function openJournal(path: string, messages: Map<string, Message>): Promise<Journal> {
  await writeFile(`${path}.tmp`, [...messages.values()].map((put) => `${JSON.stringify({ put })}\n`).join(''));
  await rename(`${path}.tmp`, path);
  const file: FileHandle = await open(path, 'a');
  let last: Promise<unknown> = Promise.resolve();
  return {
    async write(entry, isEmpty = false) {
      const written = last.then(() => (isEmpty ? file.truncate(0) : file.appendFile(`${JSON.stringify(entry)}\n`)));
      // The next one does not fail because this one did.
      last = written.catch(() => {});
      await written;
    },
    async close() {
      await last;
      await file.close();
    },
  };
}
