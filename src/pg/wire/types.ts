/**
 * Numbers of the frontend/backend protocol, version 3: message types, type OIDs, request codes.
 */

/** First byte of a message, by its name in the protocol's documentation. The same byte may mean two things by direction. */
export const FRONTEND = {
  bind: 0x42, // B
  close: 0x43, // C
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyFail: 0x66, // f
  describe: 0x44, // D
  execute: 0x45, // E
  flush: 0x48, // H
  functionCall: 0x46, // F
  parse: 0x50, // P
  password: 0x70, // p
  query: 0x51, // Q
  sync: 0x53, // S
  terminate: 0x58, // X
} as const;

export const BACKEND = {
  authentication: 0x52, // R
  backendKeyData: 0x4b, // K
  bindComplete: 0x32, // 2
  closeComplete: 0x33, // 3
  commandComplete: 0x43, // C
  copyBothResponse: 0x57, // W
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyInResponse: 0x47, // G
  copyOutResponse: 0x48, // H
  dataRow: 0x44, // D
  emptyQueryResponse: 0x49, // I
  errorResponse: 0x45, // E
  functionCallResponse: 0x56, // V
  negotiateProtocolVersion: 0x76, // v
  noData: 0x6e, // n
  noticeResponse: 0x4e, // N
  notificationResponse: 0x41, // A
  parameterDescription: 0x74, // t
  parameterStatus: 0x53, // S
  parseComplete: 0x31, // 1
  portalSuspended: 0x73, // s
  readyForQuery: 0x5a, // Z
  rowDescription: 0x54, // T
} as const;

/** OIDs of the types that our own results and parameters use, from pg_type. */
export const TYPE_OID = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  float4: 700,
  float8: 701,
  unknown: 705,
  varchar: 1043,
  timestamptz: 1184,
  interval: 1186,
  numeric: 1700,
  jsonb: 3802,
} as const;

/** Format codes of parameters and result columns. */
export type FormatCode = 0 | 1;
export const TEXT_FORMAT = 0;
export const BINARY_FORMAT = 1;

/** Type byte and length field. */
export const MESSAGE_HEADER_BYTES = 5;
/** No message may be longer, as in Postgres (PQ_LARGE_MESSAGE_LIMIT). */
export const MESSAGE_BYTES_MAX = 0x3fff_ffff;
/** No start-up packet may be longer, as in Postgres (MAX_STARTUP_PACKET_LENGTH). */
export const STARTUP_PACKET_BYTES_MAX = 10_000;

/** Protocol versions as they stand in a StartupMessage: major in the high half, minor in the low one. */
export const PROTOCOL_3_0 = 0x0003_0000;
export const PROTOCOL_3_2 = 0x0003_0002;
