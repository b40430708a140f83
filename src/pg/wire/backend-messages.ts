import { BodyReader } from './reader.ts';
import type { CancelKey } from './startup.ts';
import { BACKEND, type FormatCode } from './types.ts';
import { MessageWriter } from './writer.ts';

/** One letter per field, as in the protocol's documentation: S severity, C SQLSTATE, M message, H hint, P position... */
export type ErrorFields = ReadonlyMap<string, string>;

export interface FieldDescription {
  readonly name: string;
  readonly typeOid: number;
  /** Bytes of a value; -1 when it varies. */
  readonly typeLength: number;
  readonly format: FormatCode;
}

/** Transaction status byte of ReadyForQuery. */
export type ReadyStatus = 'I' | 'T' | 'E';

export function encodeAuthenticationOk(): Buffer {
  return new MessageWriter().begin(BACKEND.authentication).int32(0).end().take();
}

/** Offers these SASL mechanisms, the preferred first. */
export function encodeAuthenticationSasl(mechanisms: readonly string[]): Buffer {
  const writer = new MessageWriter().begin(BACKEND.authentication).int32(10);
  for (const mechanism of mechanisms) writer.cstring(mechanism);
  return writer.uint8(0).end().take();
}

export function encodeAuthenticationSaslContinue(data: string): Buffer {
  return new MessageWriter().begin(BACKEND.authentication).int32(11).text(data).end().take();
}

export function encodeAuthenticationSaslFinal(data: string): Buffer {
  return new MessageWriter().begin(BACKEND.authentication).int32(12).text(data).end().take();
}

/** Says which minor version is spoken, and which `_pq_.` parameters are not known. */
export function encodeNegotiateProtocolVersion(options: {
  protocol: number;
  unknownParameters: readonly string[];
}): Buffer {
  const writer = new MessageWriter().begin(BACKEND.negotiateProtocolVersion).uint32(options.protocol);
  writer.int32(options.unknownParameters.length);
  for (const name of options.unknownParameters) writer.cstring(name);
  return writer.end().take();
}

export function encodeErrorResponse(fields: ErrorFields): Buffer {
  return encodeFields(BACKEND.errorResponse, fields);
}

export function encodeNoticeResponse(fields: ErrorFields): Buffer {
  return encodeFields(BACKEND.noticeResponse, fields);
}

function encodeFields(type: number, fields: ErrorFields): Buffer {
  const writer = new MessageWriter().begin(type);
  for (const [code, text] of fields) writer.uint8(code.charCodeAt(0)).cstring(text);
  return writer.uint8(0).end().take();
}

/** Fields of an ErrorResponse or NoticeResponse. Text that is no UTF-8 is kept byte for byte, in Latin-1. */
export function decodeErrorFields(message: Buffer): Map<string, string> {
  const reader = new BodyReader(message, { begin: 5, end: message.length });
  const fields = new Map<string, string>();
  for (let code = reader.uint8(); code !== 0; code = reader.uint8()) {
    fields.set(String.fromCharCode(code), reader.cstringBytes().toString('latin1'));
  }
  return fields;
}

/**
 * The same ErrorResponse with its position (field P) mapped; undefined leaves it out. All else is kept byte for byte.
 */
export function mapErrorPosition(message: Buffer, map: (position: number) => number | undefined): Buffer {
  const reader = new BodyReader(message, { begin: 5, end: message.length });
  const writer = new MessageWriter({ initialBytes: message.length + 16 }).begin(message.readUInt8(0));
  for (let code = reader.uint8(); code !== 0; code = reader.uint8()) {
    const bytes = reader.cstringBytes();
    const position = code === 0x50 ? map(Number(bytes.toString('latin1'))) : undefined;
    if (code !== 0x50) writer.uint8(code).bytes(bytes).uint8(0);
    else if (position !== undefined) writer.uint8(code).cstring(String(position));
  }
  return writer.uint8(0).end().take();
}

/** The same ErrorResponse without some of its fields. All else is kept byte for byte. */
export function withoutErrorFields(message: Buffer, codes: readonly string[]): Buffer {
  const reader = new BodyReader(message, { begin: 5, end: message.length });
  const writer = new MessageWriter({ initialBytes: message.length }).begin(message.readUInt8(0));
  for (let code = reader.uint8(); code !== 0; code = reader.uint8()) {
    const bytes = reader.cstringBytes();
    if (!codes.includes(String.fromCharCode(code))) writer.uint8(code).bytes(bytes).uint8(0);
  }
  return writer.uint8(0).end().take();
}

export function encodeParameterStatus(options: { name: string; value: string }): Buffer {
  const writer = new MessageWriter().begin(BACKEND.parameterStatus);
  return writer.cstring(options.name).cstring(options.value).end().take();
}

export function encodeBackendKeyData(key: CancelKey): Buffer {
  const writer = new MessageWriter().begin(BACKEND.backendKeyData);
  return writer.uint32(key.processId).bytes(key.secret).end().take();
}

/** @throws InputError `protocol_violation` */
export function decodeBackendKeyData(message: Buffer): CancelKey {
  const reader = new BodyReader(message, { begin: 5, end: message.length });
  return { processId: reader.uint32(), secret: Uint8Array.from(reader.bytes(reader.bytesLeft)) };
}

export function encodeRowDescription(fields: readonly FieldDescription[]): Buffer {
  const writer = new MessageWriter().begin(BACKEND.rowDescription).int16(fields.length);
  for (const field of fields) {
    writer.cstring(field.name).int32(0).int16(0); // Of no table's column.
    writer.uint32(field.typeOid).int16(field.typeLength).int32(-1).int16(field.format);
  }
  return writer.end().take();
}

/** Appends one row; null is the SQL null. */
export function writeDataRow(writer: MessageWriter, values: readonly (Uint8Array | string | null)[]): void {
  writer.begin(BACKEND.dataRow).int16(values.length);
  for (const value of values) {
    if (typeof value === 'string') writer.textValue(value);
    else writer.value(value);
  }
  writer.end();
}

export function encodeCommandComplete(tag: string): Buffer {
  return new MessageWriter().begin(BACKEND.commandComplete).cstring(tag).end().take();
}

export function encodeParameterDescription(oids: readonly number[]): Buffer {
  const writer = new MessageWriter().begin(BACKEND.parameterDescription).uint16(oids.length);
  for (const oid of oids) writer.uint32(oid);
  return writer.end().take();
}

/** @throws InputError `protocol_violation` */
export function decodeParameterDescription(message: Buffer): number[] {
  const reader = new BodyReader(message, { begin: 5, end: message.length });
  return Array.from({ length: reader.uint16() }, () => reader.uint32());
}

export function encodeReadyForQuery(status: ReadyStatus): Buffer {
  return new MessageWriter().begin(BACKEND.readyForQuery).uint8(status.charCodeAt(0)).end().take();
}

function encodeEmpty(type: number): Buffer {
  return new MessageWriter({ initialBytes: 5 }).begin(type).end().take();
}

export function encodeBindComplete(): Buffer {
  return encodeEmpty(BACKEND.bindComplete);
}

export function encodeNoData(): Buffer {
  return encodeEmpty(BACKEND.noData);
}

export function encodePortalSuspended(): Buffer {
  return encodeEmpty(BACKEND.portalSuspended);
}

export function encodeEmptyQueryResponse(): Buffer {
  return encodeEmpty(BACKEND.emptyQueryResponse);
}
