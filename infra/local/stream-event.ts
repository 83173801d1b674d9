import type { _Record, AttributeValue } from '@aws-sdk/client-dynamodb-streams';

/** One record of the event that Lambda hands to a function of a DynamoDB stream. */
export interface StreamRecord {
  eventID: string;
  eventName: string;
  eventVersion: string;
  eventSource: 'aws:dynamodb';
  awsRegion: string;
  dynamodb: {
    ApproximateCreationDateTime: number;
    Keys?: Record<string, unknown>;
    NewImage?: Record<string, unknown>;
    OldImage?: Record<string, unknown>;
    SequenceNumber: string;
    SizeBytes: number;
    StreamViewType: string;
  };
  eventSourceARN: string;
}

export function toStreamRecord(record: _Record, streamArn: string, shardId: string): StreamRecord {
  const change = record.dynamodb;
  if (!change?.SequenceNumber || !record.eventName)
    throw new Error(`${streamArn} returned a record without a sequence number`);
  return {
    // Emulators number records per table; AWS's ids are unique everywhere.
    eventID: `${shardId}:${record.eventID ?? change.SequenceNumber}`,
    eventName: record.eventName,
    eventVersion: record.eventVersion ?? '1.1',
    eventSource: 'aws:dynamodb',
    awsRegion: streamArn.split(':')[3] ?? '',
    dynamodb: {
      ApproximateCreationDateTime: Math.floor((change.ApproximateCreationDateTime?.getTime() ?? Date.now()) / 1000),
      ...(change.Keys ? { Keys: plainItem(change.Keys) } : {}),
      ...(change.NewImage ? { NewImage: plainItem(change.NewImage) } : {}),
      ...(change.OldImage ? { OldImage: plainItem(change.OldImage) } : {}),
      SequenceNumber: change.SequenceNumber,
      SizeBytes: change.SizeBytes ?? 0,
      StreamViewType: change.StreamViewType ?? '',
    },
    eventSourceARN: streamArn,
  };
}

function plainItem(item: Record<string, AttributeValue>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(item).map(([name, value]) => [name, plainValue(value)]));
}

/** The event is JSON, where bytes are base64. */
function plainValue(value: AttributeValue): unknown {
  if (value.B) return { B: Buffer.from(value.B).toString('base64') };
  if (value.BS) return { BS: value.BS.map((each) => Buffer.from(each).toString('base64')) };
  if (value.L) return { L: value.L.map(plainValue) };
  if (value.M) return { M: plainItem(value.M) };
  return value;
}
