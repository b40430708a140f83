import { PlainServer } from './plain-server.ts';
import { parseSourceUri } from './source-address.ts';
import { SourceConnection, type StreamSource } from './source-connection.ts';
import type { StreamTerms } from './stream-terms.ts';

/** To the source of a stream that was begun, whichever kind it is. @throws AppError `connection_failure`, and what the other side refuses */
export async function openSource(
  { sourceUri, terms }: { readonly sourceUri: string; readonly terms: StreamTerms },
  { signal }: { signal: AbortSignal },
): Promise<StreamSource> {
  const address = parseSourceUri(sourceUri);
  return address.kind === 'atoll'
    ? SourceConnection.open(address, { signal })
    : PlainServer.open(address, { terms, signal });
}
