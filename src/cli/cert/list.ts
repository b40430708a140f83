import { createPrivateKey, type X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { InputError, toError } from '../../base/index.ts';
import { certificatesOf } from '../../keys/index.ts';

/** One line of `atoll cert list`. */
export interface ListedCertificate {
  readonly usage: 'CA' | 'Client CA' | 'Node' | 'UI' | 'Client';
  readonly certificateFile: string;
  readonly keyFile: string;
  /** `2031/11/22`. */
  readonly expires: string;
  readonly notes: string;
  readonly error: string;
}

const COLUMNS = ['Usage', 'Certificate File', 'Key File', 'Expires', 'Notes', 'Error'] as const;

/** What a folder of certificates holds, by the names of its files. @throws InputError `usage` */
export function listCertificates(directory: string, { nowMs }: { nowMs: number }): ListedCertificate[] {
  let names: string[];
  try {
    names = readdirSync(directory).sort();
  } catch (cause) {
    throw new InputError('usage', `cannot read the certificates folder ${directory}`, {
      cause,
      hint: 'name it by --certs-dir, or make one with atoll cert create-ca',
    });
  }
  return names.flatMap((name) => {
    const usage = usageOf(name);
    return usage === undefined ? [] : [listed(directory, { name, usage, nowMs })];
  });
}

function usageOf(name: string): ListedCertificate['usage'] | undefined {
  if (name === 'ca.crt') return 'CA';
  if (name === 'ca-client.crt') return 'Client CA';
  if (name === 'node.crt') return 'Node';
  if (name === 'ui.crt') return 'UI';
  return /^client\..+\.crt$/.test(name) ? 'Client' : undefined;
}

function listed(
  directory: string,
  { name, usage, nowMs }: { name: string; usage: ListedCertificate['usage']; nowMs: number },
): ListedCertificate {
  const keyFile = `${name.slice(0, -'.crt'.length)}.key`;
  const isAuthority = usage === 'CA' || usage === 'Client CA';
  const base = { usage, certificateFile: name, keyFile: '', expires: '', notes: '' };
  try {
    const certificates = certificatesOf(readFileSync(join(directory, name), 'utf8'));
    const [first] = certificates;
    if (first === undefined) return { ...base, error: 'holds no certificate' };
    const hasKey = !isAuthority && existsSync(join(directory, keyFile));
    const end = new Date(Date.parse(first.validTo));
    const found = {
      ...base,
      keyFile: hasKey ? keyFile : '',
      expires: end.toISOString().slice(0, 10).replaceAll('-', '/'),
      notes: notesOf(usage, certificates),
    };
    if (end.getTime() <= nowMs) return { ...found, error: 'expired' };
    if (isAuthority) return { ...found, error: '' };
    if (!hasKey) return { ...found, error: 'no key' };
    const key = createPrivateKey(readFileSync(join(directory, keyFile)));
    return { ...found, error: first.checkPrivateKey(key) ? '' : 'the key is of another certificate' };
  } catch (error) {
    return { ...base, error: toError(error).message };
  }
}

function notesOf(usage: ListedCertificate['usage'], certificates: readonly X509Certificate[]): string {
  const [first] = certificates;
  switch (usage) {
    case 'CA':
    case 'Client CA':
      return `num certs: ${certificates.length}`;
    case 'Node':
    case 'UI':
      return `addresses: ${(first?.subjectAltName ?? '')
        .split(', ')
        .map((part) => part.replace(/^(?:DNS|IP Address):/, ''))
        .join(',')}`;
    case 'Client':
      return `user: ${/^CN=(.*)$/m.exec(first?.subject ?? '')?.[1] ?? ''}`;
  }
}

/** Lays the list out as `cockroach cert list` does. */
export function formatCertificates(rows: readonly ListedCertificate[]): string {
  const cells = rows.map((row) => [
    row.usage,
    row.certificateFile,
    row.keyFile,
    row.expires,
    row.notes,
    row.error,
  ]);
  const widths = COLUMNS.map((name, at) =>
    Math.max(name.length, ...cells.map((row) => row[at]?.length ?? 0)),
  );
  const line = (row: readonly string[]) =>
    `  ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(' | ')}`.trimEnd();
  const rule = `--${widths.map((width) => '-'.repeat(width)).join('-+-')}`;
  return [line(COLUMNS), rule, ...cells.map(line), ''].join('\n');
}
