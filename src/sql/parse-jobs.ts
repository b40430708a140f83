import type { Statement } from './ast.ts';
import { parseScalar } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

const ACTIONS = ['pause', 'resume', 'cancel'] as const;

export const JOB_RULES: readonly Rule[] = [
  rule('show jobs', 'show_jobs', (stream) => parseShowJobs(stream, false)),
  rule('show automatic jobs', 'show_jobs', (stream) => parseShowJobs(stream, true)),
  rule('show job', 'show_job', parseShowJob),
  ...ACTIONS.flatMap((action) => [
    rule(`${action} job`, 'control_job', (stream) => parseControl(stream, action)),
    rule(`${action} jobs`, 'control_job', refuseSeveral),
    ...['backup', 'restore', 'import', 'changefeed'].map((type) =>
      rule(`${action} all ${type} jobs`, 'control_job', refuseSeveral),
    ),
  ]),
];

const CHOICES = ['for', 'when', 'select', 'with'];

function parseShowJobs(stream: TokenStream, automatic: boolean): Statement {
  if (CHOICES.some((word) => stream.isWords(word))) {
    stream.refuse(
      'SHOW JOBS with a clause is not supported',
      'choose with a query: SELECT * FROM [SHOW JOBS] WHERE ...',
    );
  }
  return { kind: 'show_jobs', automatic };
}

function parseShowJob(stream: TokenStream): Statement {
  const whenComplete = stream.acceptWords('when', 'complete');
  return { kind: 'show_job', jobId: parseScalar(stream), whenComplete };
}

function parseControl(stream: TokenStream, action: (typeof ACTIONS)[number]): Statement {
  const jobId = parseScalar(stream);
  if (stream.isWords('with', 'reason')) {
    stream.refuse('PAUSE JOB ... WITH REASON is not supported', 'leave the reason out');
  }
  return { kind: 'control_job', action, jobId };
}

function refuseSeveral(stream: TokenStream): never {
  stream.refuse('controlling several jobs with one statement is not supported', 'name one job: PAUSE JOB id');
}
