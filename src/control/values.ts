/** Reading the values of a statement, placeholders already bound. */
import { InputError, type JobId, assertNever } from '../base/index.ts';
import type { ScheduleId, SettingInput } from '../catalog/index.ts';
import type { Option, Value } from '../sql/index.ts';

/** A value as text. @throws InputError `parameter_invalid` for NULL */
export function textValue(value: Value, what: string): string {
  switch (value.kind) {
    case 'string':
      return value.value;
    case 'number':
      return value.text;
    case 'boolean':
      return String(value.value);
    case 'identifier':
      return value.name;
    case 'null':
      throw new InputError('parameter_invalid', `${what} must not be NULL`);
    case 'placeholder':
      throw new InputError('undefined_parameter', `there is no parameter $${value.number}`);
    default:
      return assertNever(value);
  }
}

/** A value of a cluster setting. @throws InputError `parameter_invalid` for NULL */
export function settingInput(value: Value, name: string): SettingInput {
  const text = textValue(value, `the value of cluster setting '${name}'`);
  if (value.kind === 'string') return { text, form: 'string' };
  return { text, form: value.kind === 'number' ? 'number' : 'word' };
}

const ID_MAX = 2n ** 63n - 1n;

/** @throws InputError `parameter_invalid` */
export function jobIdValue(value: Value): JobId {
  return parseId(textValue(value, 'a job ID'), 'job') as JobId;
}

/** @throws InputError `parameter_invalid` */
export function scheduleIdValue(value: Value): ScheduleId {
  return parseId(textValue(value, 'a schedule ID'), 'schedule') as ScheduleId;
}

/** @throws InputError `parameter_invalid` */
export function parseId(written: string, of: 'job' | 'schedule'): bigint {
  const text = written.trim();
  if (!/^\d{1,19}$/.test(text) || BigInt(text) > ID_MAX) {
    throw new InputError('parameter_invalid', `not a ${of} ID: "${text}"`, {
      hint: `SHOW ${of.toUpperCase()}S lists the IDs there are`,
    });
  }
  return BigInt(text);
}

/** Whether a flag is among the options and not switched off. @throws InputError `parameter_invalid` */
export function isFlagOn(options: readonly Option[], name: string): boolean {
  const option = options.find((candidate) => candidate.name === name);
  if (option === undefined) return false;
  const { value } = option;
  if (value === undefined) return true;
  if (!('kind' in value)) throw badFlag(name);
  if (value.kind === 'boolean') return value.value;
  const word = textValue(value, `option "${name}"`).toLowerCase();
  if (word === 'true') return true;
  if (word === 'false') return false;
  throw badFlag(name);
}

function badFlag(name: string): InputError {
  return new InputError('parameter_invalid', `option "${name}" must be true or false`);
}

/** Refuses what this release does not offer. @throws InputError `feature_not_supported` */
export function notAvailable(what: string, hint: string): InputError {
  return new InputError('feature_not_supported', `${what} is not available`, { hint });
}
