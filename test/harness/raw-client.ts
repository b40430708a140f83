/** A client that speaks the protocol by hand, for what no driver would send. */
import { connect as connectSocket, type Socket } from 'node:net';
import { encodeStartup, PROTOCOL_3_0 } from '../../src/pg/index.ts';
import { waitFor } from './wait.ts';

/** Far beyond what any server here may take to close; a hang fails while somebody still watches. */
/** How much of what was received a failure shows. */
const RECEIVED_SHOWN_BYTES = 500;

/** A message of the server: its type letter and its body. */
export interface RawMessage {
  readonly type: string;
  readonly body: Buffer;
}

export class RawClient {
  static readonly #open = new Set<RawClient>();
  readonly socket: Socket;
  #bytes: Buffer[] = [];
  isClosed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => this.#bytes.push(bytes));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      RawClient.#open.delete(this);
    });
    RawClient.#open.add(this);
  }

  /** Closes what a test that failed has left open. */
  static closeAll(): void {
    for (const client of RawClient.#open) client.close();
  }

  static async connect(where: { host: string; port: number } | { path: string }): Promise<RawClient> {
    const socket = connectSocket({ ...where, noDelay: true });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  /** Connects and logs in without a password, up to ReadyForQuery. */
  static async logIn(
    where: { host: string; port: number } | { path: string },
    parameters: Record<string, string> = {},
  ): Promise<RawClient> {
    const client = await RawClient.connect(where);
    client.sendStartup({ user: 'root', database: 'defaultdb', ...parameters });
    await client.until('Z');
    client.clear();
    return client;
  }

  sendStartup(parameters: Record<string, string>, protocol = PROTOCOL_3_0): void {
    this.send(encodeStartup({ protocol, parameters: new Map(Object.entries(parameters)) }));
  }

  send(...messages: Uint8Array[]): void {
    this.socket.write(Buffer.concat(messages));
  }

  /** All bytes so far. */
  get received(): Buffer {
    if (this.#bytes.length > 1) this.#bytes = [Buffer.concat(this.#bytes)];
    return this.#bytes[0] ?? Buffer.alloc(0);
  }

  /** All whole messages so far. */
  get messages(): RawMessage[] {
    const { received } = this;
    const messages: RawMessage[] = [];
    for (let at = 0; at + 5 <= received.length; ) {
      const end = at + 1 + received.readInt32BE(at + 1);
      if (end > received.length) break;
      messages.push({
        type: String.fromCharCode(received[at] ?? 0),
        body: received.subarray(at + 5, end),
      });
      at = end;
    }
    return messages;
  }

  /** Types of all whole messages so far, without those that come unasked. */
  get types(): string {
    return this.messages
      .map(({ type }) => type)
      .filter((type) => !'SNA'.includes(type))
      .join('');
  }

  clear(): void {
    this.#bytes = [];
  }

  /** Waits until `count` messages of the type have come since the last `clear`, and gives them all. */
  async until(type: string, count = 1): Promise<RawMessage[]> {
    return waitFor(`message ${type}`, () => {
      const { messages } = this;
      if (messages.filter((message) => message.type === type).length >= count) return messages;
      if (this.isClosed) throw new Error(`closed after ${JSON.stringify(this.types)}`);
      return false;
    });
  }

  /** Fails with what was received when the server does not close in time. */
  async untilClosed(): Promise<void> {
    try {
      await waitFor('the connection to be closed', () => this.isClosed);
    } catch (cause) {
      const tail = this.received.subarray(-RECEIVED_SHOWN_BYTES).toString('latin1');
      throw new Error(
        `not closed; received messages ${JSON.stringify(this.types)}, ending in ${JSON.stringify(tail)}`,
        { cause },
      );
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Fields of an ErrorResponse's or NoticeResponse's body. */
export function errorFields(body: Buffer): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const field of body.toString('utf8').split('\0')) {
    if (field !== '') fields[field.charAt(0)] = field.slice(1);
  }
  return fields;
}
