import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AppError, isAppError } from '../base/index.ts';
import type { NodeReport } from './node-report.ts';
import {
  askForReport,
  askToInitialize,
  OperatorSocket,
  operatorSocketPath,
  type Initialization,
} from './operator-socket.ts';

const REPORT: NodeReport = {
  processId: 1,
  release: '26.2',
  store: '/s',
  isNewStore: true,
  isInsecure: true,
  certificatesDirectory: null,
  isInitialized: false,
  defaultTarget: 'system',
  sql: { host: 'localhost', port: 1 },
  http: { host: 'localhost', port: 2 },
  socketDirectory: '/s/run/sql',
  logFile: '/s/logs/atoll.log',
};

test('the operator asks over a socket that only the same user reaches', async () => {
  const store = mkdtempSync(join(tmpdir(), 'atoll-op-'));
  try {
    const asked: Initialization[] = [];
    const service = {
      report: () => ({ ...REPORT, isInitialized: asked.length > 0 }),
      figures: async () => '',
      async initialize(initialization: Initialization) {
        if (asked.length > 0) {
          throw new AppError('object_state', 'the store is initialised already', { hint: 'nothing to do' });
        }
        asked.push(initialization);
      },
    };
    // Twice: the second finds the dead socket of the first.
    for (let round = 0; round < 2; round += 1) {
      const socket = await OperatorSocket.open({ store, service });
      assert.equal(statSync(join(operatorSocketPath(store), '..')).mode & 0o777, 0o700);
      assert.equal((await askForReport(store)).isInitialized, round > 0);
      if (round === 0) {
        const report = await askToInitialize({ store, initialization: 'virtualized_empty' });
        assert.equal(report.isInitialized, true);
        assert.deepEqual(asked, ['virtualized_empty']);
      } else {
        await assert.rejects(
          askToInitialize({ store, initialization: 'plain' }),
          (error) => isAppError(error, 'object_state') && error.hint === 'nothing to do',
        );
      }
      await socket.close();
    }
    await assert.rejects(askForReport(store), (error) => {
      assert.ok(isAppError(error, 'service_unavailable'));
      assert.match(error.hint ?? '', /atoll start/);
      return true;
    });
  } finally {
    rmSync(store, { recursive: true, force: true });
  }
});
