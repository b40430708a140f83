/** Every thread of bulk work loads its code anew: what none of its tasks needs shall not be in it. See docs/decisions/0231-what-threads-load.md. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';

/** A tenth of what a thread takes to start, and more, each; and what lies in packages. */
const NOT_WANTED = /\/node_modules\/|^node:(child_process|https?|tls)$/;

/** Prints all that a script and what it imports ask for. A thread's script then fails, for this is no thread. */
const LIST = `
  import { registerHooks } from 'node:module';
  const urls = new Set();
  registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      urls.add(found.url);
      return found;
    },
  });
  await import(process.argv[1]).catch(() => undefined);
  console.log(JSON.stringify([...urls]));
`;

async function loadedBy(script: string): Promise<readonly string[]> {
  const url = new URL(script, import.meta.url).href;
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '--eval',
    LIST,
    url,
  ]);
  return JSON.parse(stdout) as string[]; // What is printed above.
}

describe('the code of threads', () => {
  for (const script of ['../materialize/materialize-thread.ts', '../capture/capture-thread.ts']) {
    it(`holds nothing that no task of ${script} needs`, async () => {
      const urls = await loadedBy(script);
      assert.ok(urls.some((url) => url.endsWith('/worker/thread-server.ts')));
      assert.deepEqual(
        urls.filter((url) => NOT_WANTED.test(url)),
        [],
      );
    });
  }
});
