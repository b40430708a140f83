import { it } from 'node:test';

/** Declares tests that each build on the one before, in one `describe`: once one has failed, nothing more is tried. */
export function inSteps(): (name: string, run: () => Promise<void> | void) => void {
  let hasFailed = false;
  return (name, run) => {
    void it(name, async (t) => {
      if (hasFailed) return t.skip('an earlier step failed');
      hasFailed = true;
      await run();
      hasFailed = false;
    });
  };
}
