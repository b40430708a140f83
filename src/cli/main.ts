import { COMMANDS } from './commands.ts';
import { runProgram } from './program.ts';

process.exitCode = await runProgram(COMMANDS, {
  argv: process.argv.slice(2),
  environment: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
});
