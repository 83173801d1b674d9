/**
 * Kafka's 32-bit MurmurHash2 (org.apache.kafka.common.utils.Utils.murmur2), so that a key lands in the same queue here as in the
 * same number of Kafka partitions.
 */
export const murmur2 = (data: Uint8Array, from = 0, to = data.length): number => {
  const m = 0x5bd1e995;
  const length = to - from;
  let h = 0x9747b28c ^ length;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    let k = data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24);
    k = Math.imul(k, m);
    k ^= k >>> 24;
    k = Math.imul(k, m);
    h = Math.imul(h, m) ^ k;
  }
  const rest = to - at;
  if (rest === 3) h ^= data[at + 2]! << 16;
  if (rest >= 2) h ^= data[at + 1]! << 8;
  if (rest >= 1) h = Math.imul(h ^ data[at]!, m);
  h ^= h >>> 13;
  h = Math.imul(h, m);
  h ^= h >>> 15;
  return h | 0;
};

/** Kafka's default partitioner: toPositive(murmur2(key)) % queues. */
export const queueOf = (key: Uint8Array, queues: number): number => (murmur2(key) & 0x7fffffff) % queues;
