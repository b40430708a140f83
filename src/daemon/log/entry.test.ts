import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { InputError, sensitive, type Timestamp, withoutMarks, withoutSensitive } from '../../base/index.ts';
import {
  describeCause,
  formatEntry,
  formatEntryAsJson,
  formatLogTime,
  MESSAGE_LENGTH_MAX,
  type LogEntry,
} from './entry.ts';

const AT = (BigInt(Date.UTC(2023, 7, 15, 19, 31, 7)) * 1000n + 290_757n) as Timestamp;

function entry(change: Partial<LogEntry> = {}): LogEntry {
  return {
    severity: 'info',
    at: AT,
    processId: 922,
    source: 'instance/supervisor.ts:54',
    scope: { virtualClusterId: 4, virtualClusterName: 'demo' },
    nodeId: 1,
    counter: 148,
    message: 'found 0 temporary schemas',
    ...change,
  };
}

test('an entry is laid out as documented', () => {
  assert.equal(
    formatEntry(entry()),
    'I230815 19:31:07.290757 922 instance/supervisor.ts:54 ⋮ [T4,demo,n1] 148  found 0 temporary schemas\n',
  );
  assert.equal(formatLogTime((AT - 290_757n + 9n) as Timestamp), '230815 19:31:07.000009');
  for (const [severity, letter] of [
    ['warning', 'W'],
    ['error', 'E'],
    ['fatal', 'F'],
  ] as const) {
    assert.equal(formatEntry(entry({ severity }))[0], letter);
  }
});

test('further lines repeat the prefix with a plus', () => {
  const [first, second, third, rest] = formatEntry(entry({ message: 'one\r\ntwo\n\n' })).split('\n');
  assert.match(first ?? '', / 148 {2}one$/);
  assert.match(second ?? '', /^I230815 .* \[T4,demo,n1\] 148 \+two$/);
  assert.equal(third, '');
  assert.equal(rest, undefined);
});

test('no message can pose as another entry, or drive a terminal', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (message) => {
      const text = formatEntry(entry({ message }));
      assert.ok(text.endsWith('\n'));
      for (const line of text.slice(0, -1).split('\n')) {
        assert.match(
          line,
          /^I230815 19:31:07\.290757 922 instance\/supervisor\.ts:54 ⋮ \[T4,demo,n1\] 148 [ +]/u,
        );
        // oxlint-disable-next-line no-control-regex
        assert.doesNotMatch(line, /[\u0000-\u0008\u000b-\u001f\u007f]/);
      }
    }),
  );
});

test('a message without bound is cut', () => {
  const text = formatEntry(entry({ message: 'x'.repeat(MESSAGE_LENGTH_MAX + 10) }));
  assert.ok(text.length < MESSAGE_LENGTH_MAX + 200);
  assert.match(text, /\(10 characters more\)/);
});

test('a cause is told with its hint and its own cause', () => {
  const cause = new InputError('usage', 'no such flag', { hint: 'try --help', cause: new Error('inner') });
  const text = describeCause(cause);
  assert.match(text, /^no such flag \[usage\] \(hint: try --help\)\ncaused by: Error: ‹inner›\n +at /);
});

test('an entry in JSON is one line that tells the same', () => {
  const text = formatEntryAsJson(entry({ message: `row ‹1›\n+` }), { isRedactable: true });
  assert.equal(text.indexOf('\n'), text.length - 1);
  assert.deepEqual(JSON.parse(text), {
    timestamp: '2023-08-15T19:31:07.290757Z',
    severity: 'INFO',
    channel: 'OPS',
    virtual_cluster_id: 4,
    virtual_cluster_name: 'demo',
    node_id: 1,
    process_id: 922,
    source: 'instance/supervisor.ts:54',
    entry_counter: 148,
    redactable: 1,
    message: 'row ‹1›\n+',
  });
});

test('what is sensitive can be taken out, and nothing that is marked hides a mark', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (data) => {
      const marked = `before ${sensitive(data)} after`;
      const left = withoutSensitive(marked);
      assert.match(left, /^before (?:‹×›|\n)* after$/u);
      assert.equal(withoutMarks(marked), `before ${data.replaceAll(/[‹›]/g, '?')} after`);
    }),
  );
});
