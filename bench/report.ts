import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';

/** One measured thing. `goal` is the promise it is held against, or empty. */
export interface Figure {
  readonly suite: string;
  readonly what: string;
  readonly value: string;
  readonly goal?: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

export const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
export const milliseconds = (ms: number) => `${ms.toFixed(0)} ms`;
export const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
export const rate = (options: { bytes: number; ms: number }) =>
  `${(options.bytes / 2 ** 20 / (options.ms / 1000)).toFixed(0)} MiB/s`;

function machine(): string {
  const model = cpus()[0]?.model ?? 'unknown CPU';
  return `${cpus().length} × ${model.trim()}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ${process.platform}-${process.arch}`;
}

function commit(): string {
  return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  }).trim();
}

/** Prints the figures and puts them at the top of results.md, under the date, the commit and the machine. */
export function publish(figures: readonly Figure[], date: string): void {
  const lines = [`## ${date}, ${commit()}, ${machine()}`, ''];
  for (const suite of new Set(figures.map((figure) => figure.suite))) {
    lines.push(`### ${suite}`, '', '| What | Measured | Goal |', '|---|---|---|');
    for (const { what, value, goal } of figures.filter((figure) => figure.suite === suite)) {
      lines.push(`| ${what} | ${value} | ${goal ?? ''} |`);
    }
    lines.push('');
  }
  const text = lines.join('\n');
  console.log(text);
  const file = join(import.meta.dirname, 'results.md');
  const title =
    '# Results\n\nWritten by `npm run bench`; newest first. Ratios compare programs within one run on one machine.\n\n';
  const older = existsSync(file) ? readFileSync(file, 'utf8').replace(title, '') : '';
  writeFileSync(file, `${title}${text}\n${older}`);
}
