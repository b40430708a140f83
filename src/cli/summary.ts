import { join } from 'node:path';
import { formatAddress, type NodeReport } from '../daemon/index.ts';

/** Connection string of a node; with a virtual cluster's name, to that one. */
export function sqlUrl(report: NodeReport, virtualCluster?: string): string {
  const { certificatesDirectory } = report;
  const parameters = [
    ...(virtualCluster === undefined ? [] : [`options=-ccluster%3D${encodeURIComponent(virtualCluster)}`]),
    ...(certificatesDirectory === null
      ? []
      : ['sslmode=verify-full', `sslrootcert=${encodeURIComponent(join(certificatesDirectory, 'ca.crt'))}`]),
  ];
  const query = parameters.length === 0 ? '' : `?${parameters.join('&')}`;
  return `postgresql://root@${formatAddress(report.sql)}/defaultdb${query}`;
}

/** What a node that has come up says to the operator: what runs, how to reach it, and what to do next. */
export function formatSummary(report: NodeReport): string {
  const facts: [string, string][] = [
    ['store', `${report.store}${report.isNewStore ? ' (new)' : ''}`],
    ['SQL', sqlUrl(report)],
    ...(report.isInitialized && report.defaultTarget !== 'system'
      ? ([['system', sqlUrl(report, 'system')]] as [string, string][])
      : []),
    ['HTTP', `${report.certificatesDirectory === null ? 'http' : 'https'}://${formatAddress(report.http)}`],
    ['socket', `${report.socketDirectory} (needs no password)`],
    ['log', report.logFile],
    ['process', String(report.processId)],
  ];
  const width = Math.max(...facts.map(([name]) => name.length));
  const state = report.isInitialized ? 'is running' : 'waits to be initialised';
  const mode = report.isInsecure ? ', insecure: no passwords' : '';
  const lines = facts.map(([name, value]) => `  ${name.padEnd(width)}  ${value}\n`).join('');
  return `Atoll ${report.release} ${state}${mode}.\n\n${lines}\n${formatNext(report)}`;
}

function formatNext(report: NodeReport): string {
  const steps = nextSteps(report);
  const width = Math.max(...steps.map(([command]) => command.length));
  return steps.map(([command, purpose]) => `  ${command.padEnd(width)}  # ${purpose}\n`).join('');
}

function nextSteps(report: NodeReport): [string, string][] {
  const store = quoteForShell(report.store);
  const local = `atoll sql --store ${store}`;
  if (!report.isInitialized) {
    return [
      [`atoll init --store ${store} --virtualized`, 'an app virtual cluster "main", for workloads'],
      [`atoll init --store ${store} --virtualized-empty`, 'only the system virtual cluster, for a standby'],
    ];
  }
  const system: [string, string] = [
    `${local} -d cluster:system/defaultdb`,
    'CREATE VIRTUAL CLUSTER, BACKUP, ...: \\h lists them',
  ];
  if (report.isInsecure) {
    return [
      [`psql "${sqlUrl(report)}"`, 'any client of Postgres works'],
      [local, 'a shell, where \\? helps'],
      system,
    ];
  }
  return report.isNewStore
    ? [[local, 'nobody has a password yet: in the shell, \\password sets that of root'], system]
    : [[`psql "${sqlUrl(report)}"`, 'any client of Postgres works'], system];
}

function quoteForShell(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
