/** Reading what a job has recorded for itself. */
import { CorruptError } from '../base/index.ts';
import type { JsonObject } from '../catalog/index.ts';

/** @throws CorruptError when the record does not hold what this program wrote */
export function textField(payload: JsonObject, name: string): string {
  const value = payload[name];
  if (typeof value !== 'string') throw new CorruptError(`the job's record lacks its ${name}`);
  return value;
}

/** A field that older records lack. @throws CorruptError when it holds something else */
export function optionalTextField(payload: JsonObject, name: string): string | null {
  return payload[name] === undefined || payload[name] === null ? null : textField(payload, name);
}
