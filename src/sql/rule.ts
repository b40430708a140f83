import type { Statement, StatementKind } from './ast.ts';
import type { TokenStream } from './token-stream.ts';

/** One way a statement of ours begins, and how it is read on. */
export interface Rule {
  /** The keywords it begins with, lower case. Of two rules whose words begin alike the longer stands first, and may decline. */
  readonly words: readonly string[];
  readonly kind: StatementKind;
  /**
   * Whether the statement is ours, when the words do not say it: looks behind the `ahead` tokens of the words and takes nothing.
   */
  readonly claims?: (stream: TokenStream, ahead: number) => boolean;
  /** Reads what follows the words. @throws InputError `syntax`, `feature_not_supported` */
  readonly parse: (stream: TokenStream) => Statement;
}

export function rule(words: string, kind: StatementKind, parse: Rule['parse']): Rule {
  return { words: words.split(' '), kind, parse };
}
