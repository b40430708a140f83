/**
 * How one life of a data directory takes the place of another. The record of the identity is the moment; what surrounds it are two renames,
 * either of which the next start of the node can finish or take back from the names alone: docs/decisions/0039-replacing-a-life.md.
 */
import type { InstanceIdentity } from './contract.ts';
import { isPresent } from './data-directory.ts';
import { renameDurably } from './durable-files.ts';
import { writeIdentity } from './identity.ts';
import type { ClusterLayout } from './store-layout.ts';

/** What is durable: the former life has another name; the record tells of the new one. */
export type ReplacementStep = 'set_apart' | 'recorded';

/** Called synchronously, each time before anything else is done. */
export type OnReplacement = (step: ReplacementStep) => void;

/**
 * Makes the begun life of `identity` the current one; the server of the former is stopped. What fails is taken back, and may be tried again.
 */
export async function replaceLife(
  layout: ClusterLayout,
  lives: {
    readonly before: InstanceIdentity;
    readonly identity: InstanceIdentity;
    readonly onStep: OnReplacement;
  },
): Promise<void> {
  const { before, identity, onStep } = lives;
  const former = layout.current(before.incarnation);
  try {
    // What was rewound in its own place has left nothing behind.
    if (await isPresent(former)) {
      await renameDurably({ from: former, to: layout.superseded(before.incarnation) });
    }
    onStep('set_apart');
    await writeIdentity(layout.directory, identity);
    onStep('recorded');
    await renameDurably({
      from: layout.begun(identity.incarnation),
      to: layout.current(identity.incarnation),
    });
  } catch (error) {
    await takeBack(layout, before);
    throw error;
  }
}

/** Back to a life that was not replaced after all. Harmless when nothing was done. */
export async function takeBack(layout: ClusterLayout, before: InstanceIdentity): Promise<void> {
  await writeIdentity(layout.directory, before);
  await finishReplacement(layout, before);
}

/**
 * After a crash: gives the directory of the life that the record tells of its name, whether that is the new one, or the former that was only
 * set apart. Gives the name it had, or null when there was nothing to do.
 */
export async function finishReplacement(
  layout: ClusterLayout,
  { incarnation }: InstanceIdentity,
): Promise<string | null> {
  const current = layout.current(incarnation);
  if (await isPresent(current)) return null;
  for (const path of [layout.begun(incarnation), layout.superseded(incarnation)]) {
    if (!(await isPresent(path))) continue;
    await renameDurably({ from: path, to: current });
    return path;
  }
  return null;
}
