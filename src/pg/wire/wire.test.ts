import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  decodeBackendKeyData,
  decodeErrorFields,
  decodeParameterDescription,
  encodeBackendKeyData,
  encodeErrorResponse,
  encodeParameterDescription,
  mapErrorPosition,
} from './backend-messages.ts';
import {
  decodeBind,
  decodeExecute,
  decodeNamed,
  decodeParse,
  decodeQuery,
  encodeBind,
  encodeClose,
  encodeDescribe,
  encodeExecute,
  encodeParse,
  encodeQuery,
} from './frontend-messages.ts';
import { BodyReader } from './reader.ts';
import {
  decodeStartupPacket,
  encodeCancelRequest,
  encodeGssencRequest,
  encodeSslRequest,
  encodeStartup,
  joinStartupOptions,
  splitStartupOptions,
  startupPacketLength,
} from './startup.ts';
import type { FormatCode } from './types.ts';

/** Records with the prototype that decoded messages have. */
function plain<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

/** Text that a zero-terminated string can carry. */
const text = fc.string({ unit: 'grapheme' }).map((value) => value.replaceAll('\0', ''));
const oid = fc.integer({ min: 0, max: 0xffff_ffff });
const format = fc.constantFrom<FormatCode>(0, 1);
const bytes = fc.uint8Array({ maxLength: 300 }).map((value) => Buffer.from(value));
const named = plain({ kind: fc.constantFrom('statement' as const, 'portal' as const), name: text });
const bind = fc.array(fc.record({ value: fc.option(bytes), format }), { maxLength: 40 }).chain((parameters) =>
  plain({
    portalName: text,
    statementName: text,
    parameterFormats: fc.constantFrom(
      [],
      parameters.length === 1 ? [] : [1 as FormatCode],
      parameters.map((parameter) => parameter.format),
    ),
    parameters: fc.constant(parameters.map(({ value }) => value)),
    resultFormats: fc.array(format, { maxLength: 40 }),
  }),
);

describe('messages that are encoded and decoded are the same', () => {
  test('of the client', () => {
    fc.assert(fc.property(text, (value) => assert.equal(decodeQuery(encodeQuery(value)), value)));
    const parse = plain({ statementName: text, text, parameterOids: fc.array(oid, { maxLength: 300 }) });
    fc.assert(fc.property(parse, (value) => assert.deepEqual(decodeParse(encodeParse(value)), value)));
    fc.assert(fc.property(bind, (value) => assert.deepEqual(decodeBind(encodeBind(value)), value)));
    fc.assert(
      fc.property(named, (value) => {
        assert.deepEqual(decodeNamed(encodeDescribe(value)), value);
        assert.deepEqual(decodeNamed(encodeClose(value)), value);
      }),
    );
    const execute = plain({ portalName: text, rowsMax: fc.integer({ min: 0, max: 0x7fff_ffff }) });
    fc.assert(fc.property(execute, (value) => assert.deepEqual(decodeExecute(encodeExecute(value)), value)));
  });

  test('at start-up', () => {
    const parameters = fc
      .array(
        fc.tuple(
          text.filter((name) => name !== ''),
          text,
        ),
      )
      .map((entries) => new Map(entries));
    fc.assert(
      fc.property(parameters, fc.integer({ min: 0x0003_0000, max: 0x0003_ffff }), (value, protocol) => {
        const packet = encodeStartup({ protocol, parameters: value });
        if (packet.length > 10_000) return;
        assert.equal(startupPacketLength(packet), packet.length);
        assert.deepEqual(decodeStartupPacket(packet), { kind: 'startup', protocol, parameters: value });
      }),
    );
    const key = plain({
      processId: oid,
      secret: fc.uint8Array({ minLength: 1, maxLength: 256 }),
    });
    fc.assert(
      fc.property(key, (value) => {
        const decoded = decodeStartupPacket(encodeCancelRequest(value));
        assert.deepEqual(decoded, { kind: 'cancel_request', key: value });
        assert.deepEqual(decodeBackendKeyData(encodeBackendKeyData(value)), value);
      }),
    );
    assert.deepEqual(decodeStartupPacket(encodeSslRequest()), { kind: 'ssl_request' });
    assert.deepEqual(decodeStartupPacket(encodeGssencRequest()), { kind: 'gssenc_request' });
  });

  test('of the server', () => {
    const fields = fc
      .array(
        fc.tuple(fc.constantFrom('S', 'V', 'C', 'M', 'D', 'H', 'P'), fc.string({ unit: 'binary-ascii' })),
      )
      .map((entries) => new Map(entries.map(([code, value]) => [code, value.replaceAll('\0', '')])));
    fc.assert(
      fc.property(fields, (value) => assert.deepEqual(decodeErrorFields(encodeErrorResponse(value)), value)),
    );
    fc.assert(
      fc.property(fc.array(oid), (value) => {
        assert.deepEqual(decodeParameterDescription(encodeParameterDescription(value)), value);
      }),
    );
  });
});

test('the position of an error is moved or removed, all else is kept byte for byte', () => {
  const error = encodeErrorResponse(
    new Map([
      ['M', 'größe'],
      ['P', '7'],
      ['F', 'x.c'],
    ]),
  );
  const moved = encodeErrorResponse(
    new Map([
      ['M', 'größe'],
      ['P', '12'],
      ['F', 'x.c'],
    ]),
  );
  const removed = encodeErrorResponse(
    new Map([
      ['M', 'größe'],
      ['F', 'x.c'],
    ]),
  );
  assert.deepEqual(
    mapErrorPosition(error, (position) => position + 5),
    moved,
  );
  assert.deepEqual(
    mapErrorPosition(error, () => undefined),
    removed,
  );
});

test('options are split by the rules of Postgres', () => {
  assert.deepEqual(splitStartupOptions(''), []);
  assert.deepEqual(splitStartupOptions('  -c a=b\t--x=y\n'), ['-c', 'a=b', '--x=y']);
  assert.deepEqual(splitStartupOptions('-c a=b\\ c\\\\d'), ['-c', 'a=b c\\d']);
  assert.deepEqual(splitStartupOptions('a\\'), ['a']);
  const argument = fc.string({ unit: 'binary', minLength: 1 });
  fc.assert(
    fc.property(fc.array(argument), (args) => {
      assert.deepEqual(splitStartupOptions(joinStartupOptions(args)), args);
    }),
  );
});

test('malformed messages raise a protocol violation and nothing else', () => {
  const decoders = [
    decodeQuery,
    decodeParse,
    decodeBind,
    decodeNamed,
    decodeExecute,
    decodeParameterDescription,
  ];
  const isViolation = (error: unknown): boolean =>
    (error as { code?: unknown }).code === 'protocol_violation';
  fc.assert(
    fc.property(fc.constantFrom(...decoders), bytes, (decode, body) => {
      try {
        decode(Buffer.concat([Buffer.alloc(5), body]));
      } catch (error) {
        assert.ok(isViolation(error), String(error));
      }
    }),
    { numRuns: 2_000 },
  );
  fc.assert(
    fc.property(bytes, (packet) => {
      try {
        startupPacketLength(packet);
        decodeStartupPacket(packet);
      } catch (error) {
        assert.ok(isViolation(error), String(error));
      }
    }),
    { numRuns: 2_000 },
  );
  const whole = encodeBind({
    portalName: 'p',
    statementName: 's',
    parameterFormats: [1],
    parameters: [Buffer.of(1), null],
    resultFormats: [0],
  });
  for (let end = 5; end < whole.length; end += 1) {
    assert.throws(() => decodeBind(whole.subarray(0, end)), isViolation, `cut at ${end}`);
  }
  assert.throws(() => new BodyReader(Buffer.alloc(8), { begin: 0, end: 4 }).bytes(5), isViolation);
});
