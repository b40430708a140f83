import { BodyReader, protocolViolation } from './reader.ts';
import { FRONTEND, type FormatCode } from './types.ts';
import { MessageWriter } from './writer.ts';

/** What Describe and Close name. */
export type NamedKind = 'statement' | 'portal';

export interface ParseMessage {
  readonly statementName: string;
  readonly text: string;
  /** 0 where the client leaves the choice to the server. */
  readonly parameterOids: readonly number[];
}

export interface BindMessage {
  readonly portalName: string;
  readonly statementName: string;
  /** None: all text; one: it holds for all. */
  readonly parameterFormats: readonly FormatCode[];
  readonly parameters: readonly (Buffer | null)[];
  readonly resultFormats: readonly FormatCode[];
}

/** Reader of one whole message's body; `message` begins with its type byte. */
function bodyOf(message: Buffer): BodyReader {
  return new BodyReader(message, { begin: 5, end: message.length });
}

/** The text of a Query. @throws InputError `protocol_violation` */
export function decodeQuery(message: Buffer): string {
  const reader = bodyOf(message);
  const text = reader.cstring();
  reader.finish();
  return text;
}

/** @throws InputError `protocol_violation` */
export function decodeParse(message: Buffer): ParseMessage {
  const reader = bodyOf(message);
  const statementName = reader.cstring();
  const text = reader.cstring();
  const parameterOids = Array.from({ length: reader.uint16() }, () => reader.uint32());
  reader.finish();
  return { statementName, text, parameterOids };
}

/** Parameter values are views into `message`. @throws InputError `protocol_violation` */
export function decodeBind(message: Buffer): BindMessage {
  const reader = bodyOf(message);
  const portalName = reader.cstring();
  const statementName = reader.cstring();
  const parameterFormats = decodeFormats(reader);
  const parameters = Array.from({ length: reader.uint16() }, () => {
    const length = reader.int32();
    return length === -1 ? null : reader.bytes(length);
  });
  if (parameterFormats.length > 1 && parameterFormats.length !== parameters.length) {
    throw protocolViolation(
      `bind message has ${parameterFormats.length} parameter formats but ${parameters.length} parameters`,
    );
  }
  const resultFormats = decodeFormats(reader);
  reader.finish();
  return { portalName, statementName, parameterFormats, parameters, resultFormats };
}

function decodeFormats(reader: BodyReader): FormatCode[] {
  return Array.from({ length: reader.uint16() }, () => {
    const code = reader.int16();
    if (code !== 0 && code !== 1) throw protocolViolation(`unsupported format code: ${code}`);
    return code;
  });
}

/** Describe or Close. @throws InputError `protocol_violation` */
export function decodeNamed(message: Buffer): { kind: NamedKind; name: string } {
  const reader = bodyOf(message);
  const kind = reader.uint8();
  if (kind !== 0x53 && kind !== 0x50) throw protocolViolation(`invalid message subtype ${kind}`);
  const name = reader.cstring();
  reader.finish();
  return { kind: kind === 0x53 ? 'statement' : 'portal', name };
}

/** @throws InputError `protocol_violation` */
export function decodeExecute(message: Buffer): { portalName: string; rowsMax: number } {
  const reader = bodyOf(message);
  const portalName = reader.cstring();
  const rowsMax = reader.int32();
  reader.finish();
  return { portalName, rowsMax };
}

/** The answer to an authentication request: a password, or a SASL response's bytes. */
export function decodePassword(message: Buffer): Buffer {
  return message.subarray(5);
}

/** @throws InputError `protocol_violation` */
export function decodeSaslInitialResponse(message: Buffer): { mechanism: string; data: Buffer } {
  const reader = bodyOf(message);
  const mechanism = reader.cstring();
  const length = reader.int32();
  const data = length === -1 ? Buffer.alloc(0) : reader.bytes(length);
  reader.finish();
  return { mechanism, data };
}

export function encodeQuery(text: string): Buffer {
  return new MessageWriter({ initialBytes: text.length + 16 })
    .begin(FRONTEND.query)
    .cstring(text)
    .end()
    .take();
}

export function encodeParse(parse: ParseMessage): Buffer {
  const writer = new MessageWriter({ initialBytes: parse.text.length + 64 }).begin(FRONTEND.parse);
  writer.cstring(parse.statementName).cstring(parse.text).uint16(parse.parameterOids.length);
  for (const oid of parse.parameterOids) writer.uint32(oid);
  return writer.end().take();
}

export function encodeBind(bind: BindMessage): Buffer {
  const writer = new MessageWriter().begin(FRONTEND.bind);
  writer.cstring(bind.portalName).cstring(bind.statementName);
  writer.uint16(bind.parameterFormats.length);
  for (const code of bind.parameterFormats) writer.int16(code);
  writer.uint16(bind.parameters.length);
  for (const value of bind.parameters) writer.value(value);
  writer.uint16(bind.resultFormats.length);
  for (const code of bind.resultFormats) writer.int16(code);
  return writer.end().take();
}

function encodeNamed(type: number, named: { kind: NamedKind; name: string }): Buffer {
  const kind = named.kind === 'statement' ? 0x53 : 0x50;
  return new MessageWriter().begin(type).uint8(kind).cstring(named.name).end().take();
}

export function encodeDescribe(named: { kind: NamedKind; name: string }): Buffer {
  return encodeNamed(FRONTEND.describe, named);
}

export function encodeClose(named: { kind: NamedKind; name: string }): Buffer {
  return encodeNamed(FRONTEND.close, named);
}

export function encodeExecute(execute: { portalName: string; rowsMax: number }): Buffer {
  const writer = new MessageWriter().begin(FRONTEND.execute);
  return writer.cstring(execute.portalName).int32(execute.rowsMax).end().take();
}

function encodeEmpty(type: number): Buffer {
  return new MessageWriter({ initialBytes: 5 }).begin(type).end().take();
}

export function encodeSync(): Buffer {
  return encodeEmpty(FRONTEND.sync);
}

export function encodeFlush(): Buffer {
  return encodeEmpty(FRONTEND.flush);
}

export function encodeTerminate(): Buffer {
  return encodeEmpty(FRONTEND.terminate);
}
