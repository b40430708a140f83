import { openSync } from 'node:fs';
import { ReadStream, WriteStream } from 'node:tty';
import { AppError, CancelledError, InputError } from '../../base/index.ts';

/**
 * Asks for a password at the process's terminal, whatever standard input is, and shows nothing of it.
 * @throws AppError `authentication_failed` without a terminal
 */
export async function askPassword(options: { user: string }): Promise<string> {
  return await askSecret(`Password for user ${options.user}: `, options);
}

/** Asks twice for a new password. @throws InputError when the two differ */
export async function askNewPassword(options: { user: string }): Promise<string> {
  const first = await askSecret(`New password for user ${options.user}: `, options);
  const second = await askSecret('Enter it again: ', options);
  if (first !== second) throw new InputError('parameter_invalid', 'the two passwords differ');
  if (first === '') throw new InputError('parameter_invalid', 'an empty password lets nobody in');
  return first;
}

async function askSecret(question: string, options: { user: string }): Promise<string> {
  let input: ReadStream;
  let output: WriteStream;
  try {
    input = new ReadStream(openSync('/dev/tty', 'r'));
    output = new WriteStream(openSync('/dev/tty', 'w'));
  } catch (error) {
    throw new AppError('authentication_failed', `a password is needed for user "${options.user}"`, {
      cause: error,
      hint: 'set PGPASSWORD, or run this at a terminal; the local socket of the store needs none',
    });
  }
  try {
    output.write(question);
    input.setRawMode(true);
    return await readSecret(input);
  } finally {
    input.setRawMode(false);
    output.write('\n');
    input.destroy();
    output.destroy();
  }
}

const CTRL_C = '\u0003';
const CTRL_D = '\u0004';
const CTRL_U = '\u0015';
const BACKSPACES: readonly string[] = ['\b', '\u007f'];

/** Characters up to the end of the line, with the usual keys for mistakes. */
export async function readSecret(input: AsyncIterable<Uint8Array>): Promise<string> {
  let typed: string[] = [];
  const decoder = new TextDecoder();
  for await (const chunk of input) {
    for (const character of decoder.decode(chunk, { stream: true })) {
      if (character === '\r' || character === '\n') return typed.join('');
      if (character === CTRL_C || (character === CTRL_D && typed.length === 0)) {
        throw new CancelledError('no password was given');
      }
      if (character === CTRL_U) typed = [];
      else if (BACKSPACES.includes(character)) typed.pop();
      else typed.push(character);
    }
  }
  return typed.join('');
}
