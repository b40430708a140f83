/** The helper's process: a child of the daemon that is root and reads nothing but its parent's requests. It ends with its parent. */
import { errnoOf, toError } from '../../base/index.ts';
import { Helper } from './helper.ts';
import { type FromHelper, helperSpecSchema, toHelperSchema } from './requests.ts';

// What the terminal of the daemon sends to all in front of it is for the daemon.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.once('disconnect', () => process.exit(0));
process.title = 'atoll-helper';

const tell = (message: FromHelper): void => void process.send?.(message, undefined, {}, () => undefined);

const helper = new Helper(helperSpecSchema.parse(JSON.parse(process.argv[2] ?? '')), {
  ended: (pid, how) => tell({ kind: 'ended', pid, how }),
});

async function answer(message: unknown): Promise<void> {
  const { id, request } = toHelperSchema.parse(message);
  try {
    const value = await helper.serve(request);
    tell({ kind: 'done', id, ...(value === undefined ? {} : { value: value as never }) });
  } catch (error) {
    tell({ kind: 'failed', id, message: toError(error).message, code: errnoOf(error) ?? null });
  }
}

process.on('message', (message: unknown) => {
  // Nobody who is in order says anything else: better none than one that guesses.
  answer(message).catch(() => process.exit(70));
});
tell({ kind: 'ready' });
