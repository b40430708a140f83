import type { Writable } from 'node:stream';
import type { OnProgress } from './remote.ts';

/** Shows how far a file is, on a line of a terminal that is written anew; elsewhere nothing. */
export function progressOf(stream: Writable & { readonly isTTY?: boolean }, name: string): OnProgress {
  if (stream.isTTY !== true) return () => undefined;
  // What others have called a file does not steer our terminal.
  const shown = name.replaceAll(/\p{Cc}/gu, '?');
  let last = -1;
  return ({ bytes, totalBytes }) => {
    const percent = totalBytes === 0 ? 100 : Math.floor((bytes * 100) / totalBytes);
    if (percent === last) return;
    last = percent;
    stream.write(`\r${shown}: ${percent} %${bytes === totalBytes ? '\n' : ''}`);
  };
}
