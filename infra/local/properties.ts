import * as z from 'zod';
import type { Intrinsics } from './intrinsics.ts';
import { type Resource, resourceName } from './template.ts';

/** The properties that the host understands, resolved and checked; what CloudFormation accepts as text ("30", "true") is accepted. */
export function parseProperties<T>(schema: z.ZodType<T>, resource: Resource, intrinsics: Intrinsics): T {
  const result = schema.safeParse(intrinsics.properties(resource));
  if (result.success) return result.data;
  throw new Error(`${resourceName(resource)}: ${z.prettifyError(result.error)}`);
}

export const integer = z.union([z.number(), z.string().regex(/^-?\d+$/)]).transform(Number);

export const flag = z
  .union([z.boolean(), z.enum(['true', 'false'])])
  .transform((value) => value === true || value === 'true');

/** A property that may only be absent. */
export const unsupported = (message: string) => z.undefined(message).optional();

/** The name in a function name, ARN or qualified ARN, as the Lambda API accepts all three. */
export function functionNameOf(nameOrArn: string): string {
  const parts = nameOrArn.split(':');
  if (parts[0] === 'arn') return parts[6] ?? nameOrArn;
  // Partial ARN: account:function:name.
  if (parts[1] === 'function') return parts[2] ?? nameOrArn;
  return parts[0] ?? nameOrArn;
}
