import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { failure, GcsServer } from '../../../test/harness/gcs-server.ts';
import { isAppError } from '../../base/index.ts';
import { parseBlobKey } from '../blob-key.ts';
import type { BlobStore } from '../blob-store.ts';
import { readBlob } from '../read.ts';
import { serviceBlobStore } from '../service/service-blob-store.ts';
import { testPatience } from '../service/testing.ts';
import { openGs } from './gs-service.ts';
import { parseGsUri } from './gs-uri.ts';

const { signal } = new AbortController();
const MIB = 1024 * 1024;

describe('Google Cloud Storage', () => {
  let server: GcsServer;
  let folders = 0;
  before(async () => {
    server = await GcsServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  function open(): BlobStore {
    const location = parseGsUri(
      `gs://bucket/folder-${folders++}?AUTH=implicit&GS_ENDPOINT=${encodeURIComponent(server.endpoint)}`,
    );
    const displayUri = 'gs://bucket/folder';
    return serviceBlobStore({
      displayUri,
      folder: location.folder,
      patience: testPatience,
      open: () => openGs(location, { displayUri, authClient: server.authClient }),
    });
  }

  it('looks for rights of the node again when there were none, and tells of it without the words of a library', async () => {
    let opens = 0;
    const opening = (failures: number, operationMs: number) => {
      const location = parseGsUri(
        `gs://bucket/rights?AUTH=implicit&GS_ENDPOINT=${encodeURIComponent(server.endpoint)}`,
      );
      return serviceBlobStore({
        displayUri: 'gs://bucket/rights',
        folder: location.folder,
        patience: { ...testPatience, operationMs },
        open: async () => {
          opens += 1;
          if (opens <= failures) throw new Error('could not load the credentials in /secret/path');
          return openGs(location, { displayUri: 'gs://bucket/rights', authClient: server.authClient });
        },
      });
    };
    const key = parseBlobKey('rights');
    assert.equal(await opening(2, testPatience.operationMs).size(key, { signal }), null);
    assert.equal(opens, 3);
    await assert.rejects(opening(Number.POSITIVE_INFINITY, 0).size(key, { signal }), (error: unknown) => {
      assert.ok(isAppError(error, 'blob_unavailable'));
      assert.match(String(error.hint), /AUTH=specified/);
      assert.doesNotMatch(`${error.stack} ${error.detail} ${String(error.cause)}`, /secret/);
      return true;
    });
  });

  it('sends long objects in parts, and goes on where an answer was lost', async () => {
    const content = randomBytes(19 * MIB + 5);
    for (const when of ['before', 'after'] as const) {
      for (const failing of [1, 2, 3]) {
        let parts = 0;
        server.interfere = ({ request, body }) => {
          const isPart = request.method === 'PUT' && body.length > 0;
          if (!isPart || ++parts !== failing) return undefined;
          return { when, answer: failure(503, 'backendError') };
        };
        const store = open();
        const key = parseBlobKey('long');
        await store.put(key, content, { signal });
        assert.ok(
          content.equals(await readBlob(store, key, { bytesMax: 32 * MIB, signal })),
          `${when} ${failing}`,
        );
      }
    }
    server.interfere = () => undefined;
  });

  it('lets one of two long writers win', async () => {
    const store = open();
    const key = parseBlobKey('raced');
    const contents = [randomBytes(9 * MIB), randomBytes(9 * MIB)];
    const outcomes = await Promise.allSettled(contents.map((content) => store.put(key, content, { signal })));
    const winners = outcomes.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []));
    assert.equal(winners.length, 1);
    assert.ok(contents[winners[0] ?? 0]?.equals(await readBlob(store, key, { bytesMax: 32 * MIB, signal })));
  });
});
