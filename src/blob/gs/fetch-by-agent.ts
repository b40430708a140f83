import { type Agent, request } from 'node:https';

/** `fetch`, as far as the driver uses it. */
export type Fetch = (
  url: string | URL,
  init: {
    readonly method: string;
    readonly headers?: Readonly<Record<string, string>> | Headers;
    readonly body?: Uint8Array | string;
    readonly signal: AbortSignal;
  },
) => Promise<Response>;

/** `fetch` over connections of an agent, who knows whom to believe: the runtime's own takes none. */
export function fetchBy(agent: Agent): Fetch {
  return (url, { method, headers = {}, body, signal }) =>
    new Promise((resolve, reject) => {
      const asked = request(
        url,
        { method, headers: Object.fromEntries(new Headers(headers)), agent, signal },
        (answer) => {
          const pieces: Buffer[] = [];
          answer.on('data', (piece: Buffer) => pieces.push(piece));
          answer.once('error', reject);
          answer.once('end', () => {
            const status = answer.statusCode ?? 0;
            const isEmpty = status === 204 || status === 304;
            const named = Object.entries(answer.headers).map(([name, value]): [string, string] => [
              name,
              String(value),
            ]);
            resolve(new Response(isEmpty ? null : Buffer.concat(pieces), { status, headers: named }));
          });
        },
      );
      asked.once('error', reject);
      asked.end(body);
    });
}
