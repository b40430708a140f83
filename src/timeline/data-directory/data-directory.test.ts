import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { isAppError, type Lsn } from '../../base/index.ts';
import { PAGE_BYTES, PageBuffer } from '../../pg/index.ts';
import { listDataFiles } from './list-files.ts';
import { isDataPath } from './rules.ts';
import { verifyPages } from './verify-pages.ts';

describe('what belongs into a base', () => {
  it('is told by its path', () => {
    const data = [
      'PG_VERSION',
      'base/5/16384',
      'base/5/16384_vm',
      'base/5/pg_filenode.map',
      'global/pg_control',
      'pg_xact/0000',
      'pg_multixact/members/0000',
      'pg_logical/replorigin_checkpoint',
      'pg_twophase/00000001000002A1',
    ];
    for (const path of data) assert.ok(isDataPath(path), path);
    const others = [
      '',
      'postgresql.conf',
      'postgresql.auto.conf',
      'pg_hba.conf',
      'pg_ident.conf',
      'postmaster.pid',
      'postmaster.opts',
      'backup_label',
      'tablespace_map',
      'recovery.signal',
      'standby.signal',
      'current_logfiles',
      'log/x.log',
      'pg_wal/000000010000000000000001',
      'pg_replslot/s/state',
      'pg_stat_tmp/x',
      'pg_subtrans/0000',
      'pg_notify/0000',
      'pg_dynshmem/x',
      'pg_serial/0000',
      'pg_snapshots/x',
      'base/5/pg_internal.init',
      'base/5/pg_internal.init.123',
      'base/pgsql_tmp/pgsql_tmp1.0',
      'base/5/t3_16384',
      'global/pg_internal.init',
      'pg_logical/replorigin_checkpoint.tmp',
      '/etc/passwd',
      '../x',
      'base/../../x',
      'base//5',
      'base/./5',
      'base/5/a\nb',
      'base/5/\0',
      '.ssh/authorized_keys',
      'base\\5',
    ];
    for (const path of others) assert.ok(!isDataPath(path), path);
  });

  async function withTree(
    paths: readonly string[],
    use: (directory: string) => Promise<void>,
  ): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), 'atoll-tree-'));
    try {
      for (const path of paths) {
        await mkdir(join(directory, dirname(path)), { recursive: true });
        if (!path.endsWith('/.')) await writeFile(join(directory, path), Buffer.alloc(PAGE_BYTES + 100));
      }
      await use(directory);
    } finally {
      await rm(directory, { recursive: true });
    }
  }

  it('is listed in order, without unlogged content, strangers and the control file', async () => {
    const tree = [
      'PG_VERSION',
      'postmaster.pid',
      'base/5/2',
      'base/5/10',
      'base/5/10_init',
      'base/5/10_fsm',
      'base/5/10.1',
      'base/5/11',
      'base/5/t1_12',
      'base/pgsql_tmp/x',
      'global/pg_control',
      'global/1262',
      'pg_wal/1',
      'pg_tblspc/.',
      'evil/x',
    ];
    await withTree(tree, async (directory) => {
      const files = listDataFiles(directory);
      assert.deepEqual(
        files.map(({ path, kind, bytes }) => `${path} ${kind} ${bytes}`),
        [
          `PG_VERSION bytes ${PAGE_BYTES + 100}`,
          `base/5/10_init pages ${PAGE_BYTES}`,
          `base/5/11 pages ${PAGE_BYTES}`,
          `base/5/2 pages ${PAGE_BYTES}`,
          `global/1262 pages ${PAGE_BYTES}`,
        ],
      );
    });
  });

  it('may have no tablespaces and no links', async () => {
    const isRefused = (error: unknown) => isAppError(error, 'object_state');
    await withTree(['PG_VERSION', 'pg_tblspc/16400'], async (directory) => {
      assert.throws(() => listDataFiles(directory), isRefused);
    });
    await withTree(['PG_VERSION', 'base/5/1'], async (directory) => {
      await symlink('/etc/passwd', join(directory, 'base', '5', '2'));
      assert.throws(() => listDataFiles(directory), isRefused);
    });
  });
});

describe('pages that are read', () => {
  const startLsn = 1000n as Lsn;

  /** A buffer of four pages whose checksums are wrong, changed at these positions. */
  function badPages(lsns: readonly number[]): PageBuffer {
    const buffer = new PageBuffer({ pagesMax: 4 });
    for (const [page, lsn] of lsns.entries()) {
      buffer.view.setUint32(page * PAGE_BYTES + 4, lsn, true);
      buffer.view.setUint16(page * PAGE_BYTES + 14, 100, true);
    }
    return buffer;
  }

  /** Makes a page right by trying all checksums. */
  function repair(buffer: PageBuffer, page: number): void {
    for (let checksum = 1; checksum <= 0xffff; checksum++) {
      buffer.view.setUint16(page * PAGE_BYTES + 8, checksum, true);
      if (buffer.firstBadPage({ from: page, count: page + 1, firstBlock: 70 }) === -1) return;
    }
    assert.fail('no checksum is right');
  }

  const verify = (buffer: PageBuffer, reread?: (page: number) => void) =>
    verifyPages(buffer, {
      count: 4,
      firstBlock: 70,
      startLsn,
      path: 'base/5/1',
      ...(reread === undefined ? {} : { reread }),
    });

  it('may be wrong when the log brings them back', () => {
    const rereads: number[] = [];
    verify(badPages([1000, 2000, 3000, 1000]), (page) => rereads.push(page));
    assert.deepEqual(rereads, []);
  });

  it('are read again when they were caught half written', () => {
    const buffer = badPages([1, 1000, 2, 3]);
    const rereads: number[] = [];
    verify(buffer, (page) => {
      rereads.push(page);
      if (rereads.filter((each) => each === page).length === 2) repair(buffer, page);
    });
    assert.deepEqual(rereads, [0, 0, 2, 2, 3, 3]);
  });

  it('are refused by file and block when they stay wrong', () => {
    const buffer = badPages([1, 1, 1, 999]);
    for (const page of [0, 1, 2]) repair(buffer, page);
    const isRefused = (error: unknown) =>
      isAppError(error, 'data_corrupt') && error.message.endsWith('block 73 of base/5/1');
    assert.throws(() => verify(buffer, () => undefined), isRefused);
    assert.throws(() => verify(buffer), isRefused);
  });
});
