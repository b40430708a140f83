import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sensitive } from '../../base/index.ts';
import { systemClock } from '../clock.ts';
import { LogFile } from './log-file.ts';
import { type LogSink, NodeLog } from './node-logger.ts';

const MAIN = { virtualClusterId: 3, virtualClusterName: 'main' };

function withDirectory(run: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'atoll-log-'));
  try {
    run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test('entries carry their source, tag and a rising counter; what was said before the file is kept', () => {
  withDirectory((directory) => {
    const seen: string[] = [];
    const log = new NodeLog({
      clock: systemClock(),
      nodeId: 1,
      stderr: { from: 'warning', write: (text) => seen.push(text) },
    });
    log.logger.info('early');
    const file = LogFile.open({ name: 'atoll', directory });
    log.attachFiles({ main: file, audit: file });
    log.logger.for({ virtualClusterId: 3, virtualClusterName: 'main' }).warning('tagged', new Error('why'));
    file.close();
    const lines = readFileSync(join(directory, 'atoll.log'), 'utf8').split('\n');
    assert.match(lines[0] ?? '', / daemon\/log\/node-logger\.test\.ts:\d+ ⋮ \[T1,system,n1\] 1 {2}early$/);
    assert.match(
      lines[1] ?? '',
      /^W.* daemon\/log\/node-logger\.test\.ts:\d+ ⋮ \[T3,main,n1\] 2 {2}tagged: Error: ‹why›$/,
    );
    assert.equal(seen.length, 1);
  });
});

test('a full file is set aside, and only so many are kept', () => {
  withDirectory((directory) => {
    const file = LogFile.open({ name: 'atoll', directory, bytesMax: 100, filesKeptMax: 2 });
    for (let number = 0; number < 50; number += 1)
      file.write(`entry ${number.toString().padStart(2, '0')}\n`);
    file.close();
    const names = readdirSync(directory).toSorted();
    assert.deepEqual(names, ['atoll.0003.log', 'atoll.0004.log', 'atoll.log']);
    const kept = names.map((name) => readFileSync(join(directory, name), 'utf8')).join('');
    assert.match(kept, /^entry 22\n/);
    assert.match(kept, /entry 49\n$/);
  });
});

test('an existing file is appended to', () => {
  withDirectory((directory) => {
    for (const text of ['one\n', 'two\n']) {
      const file = LogFile.open({ name: 'atoll', directory });
      file.write(text);
      file.close();
    }
    assert.equal(readFileSync(join(directory, 'atoll.log'), 'utf8'), 'one\ntwo\n');
  });
});

test('what a full disk swallowed is counted and told', () => {
  const texts: string[] = [];
  let lost = 3;
  const log = new NodeLog({ clock: systemClock(), nodeId: 1, stderr: undefined });
  const main: LogSink = {
    write: (text) => texts.push(text),
    takeLostCount: () => {
      const count = lost;
      lost = 0;
      return count;
    },
  };
  log.attachFiles({ main, audit: { write: () => undefined, takeLostCount: () => 0 } });
  log.logger.info('after');
  assert.match(texts.join(''), /3 log entries before this one could not be written\n.*after\n$/);
});

test('an audit has files of its own, whatever is left out elsewhere', () => {
  withDirectory((directory) => {
    const log = new NodeLog({ clock: systemClock(), nodeId: 1, stderr: undefined, fileFrom: 'warning' });
    log.logger.for({ ...MAIN, channel: 'audit' }).info('somebody did it');
    log.logger.for(MAIN).info('left out');
    log.attachFiles({
      main: LogFile.open({ directory, name: 'atoll' }),
      audit: LogFile.open({ directory, name: 'atoll-audit' }),
    });
    log.logger.for(MAIN).warning('kept');
    assert.match(readFileSync(join(directory, 'atoll-audit.log'), 'utf8'), /^I.* somebody did it\n$/);
    assert.match(readFileSync(join(directory, 'atoll.log'), 'utf8'), /^W.* kept\n$/);
  });
});

test('marks of what is sensitive stay in files as long as they are wanted, and never reach standard error', () => {
  for (const [isRedactable, expected] of [
    [true, 'found ‹a row›'],
    [false, 'found a row'],
  ] as const) {
    for (const format of ['text', 'json'] as const) {
      const written: string[] = [];
      const shown: string[] = [];
      const stderr = { from: 'info', write: (text: string) => shown.push(text) } as const;
      const log = new NodeLog({ clock: systemClock(), nodeId: 1, stderr, format, isRedactable });
      const sink: LogSink = { write: (text) => written.push(text), takeLostCount: () => 0 };
      log.attachFiles({ main: sink, audit: sink });
      log.logger.for({ ...MAIN, channel: 'postgres' }).info(`found ${sensitive('a row')}`);
      const line = written.join('');
      const message =
        format === 'json' ? (JSON.parse(line) as { message: string }).message : line.slice(0, -1);
      assert.ok(message.endsWith(expected), line);
      assert.match(shown.join(''), / {2}found a row\n$/);
    }
  }
});
