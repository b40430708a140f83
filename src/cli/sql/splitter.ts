/** Inside what the text ended: decides the prompt of the next line. */
export type Pending =
  | 'nothing'
  | 'statement'
  | 'parenthesis'
  | 'single_quote'
  | 'double_quote'
  | 'dollar_quote'
  | 'comment';

/** A statement that is complete. */
export interface SplitStatement {
  /** With its semicolon; white space around it is cut. */
  readonly text: string;
  /** A line break in it belongs to a quoted text or ends a comment, so lines must not be joined. */
  readonly hasFixedBreaks: boolean;
}

type Mode =
  | 'code'
  | 'single_quote'
  | 'escape_quote'
  | 'double_quote'
  | 'dollar_quote'
  | 'line_comment'
  | 'comment';

/**
 * Cuts a stream of lines into statements at semicolons, by the rules of Postgres's own shell: not inside quotes,
 * comments, parentheses, or the `BEGIN ATOMIC ... END` body of a function. Lines are pushed with their line break.
 */
export class StatementSplitter {
  #text = '';
  #mode: Mode = 'code';
  #dollarTag = '';
  #commentDepth = 0;
  #parentheses = 0;
  #blocks = 0;
  #words: string[] = [];
  #hasContent = false;
  #hasFixedBreaks = false;

  get pending(): Pending {
    switch (this.#mode) {
      case 'single_quote':
      case 'escape_quote':
        return 'single_quote';
      case 'double_quote':
      case 'dollar_quote':
      case 'comment':
        return this.#mode;
      case 'code':
      case 'line_comment':
        if (!this.#hasContent) return 'nothing';
        return this.#parentheses > 0 ? 'parenthesis' : 'statement';
    }
  }

  /** The unfinished text. */
  get text(): string {
    return this.#text;
  }

  /** Forgets what is unfinished. */
  reset(): void {
    this.#text = '';
    this.#mode = 'code';
    this.#dollarTag = '';
    this.#commentDepth = 0;
    this.#parentheses = 0;
    this.#blocks = 0;
    this.#words = [];
    this.#hasContent = false;
    this.#hasFixedBreaks = false;
  }

  /** Takes whole lines; gives the statements they complete. */
  push(lines: string): readonly SplitStatement[] {
    const complete: SplitStatement[] = [];
    let begin = 0;
    for (let index = 0; index < lines.length; ) {
      const length = this.#step(lines, index);
      index += length;
      if (this.#mode !== 'code' || lines[index - 1] !== ';' || this.#parentheses > 0 || this.#blocks > 0)
        continue;
      this.#text += lines.slice(begin, index);
      begin = index;
      const text = this.#text.trim();
      if (this.#hasContent && text !== ';') complete.push({ text, hasFixedBreaks: this.#hasFixedBreaks });
      this.reset();
    }
    this.#text += lines.slice(begin);
    if (!this.#hasContent && this.#mode === 'code') this.#text = '';
    return complete;
  }

  /** At the end of the input: what is left, though no semicolon ends it; undefined when that is only comments. */
  finish(): SplitStatement | undefined {
    const rest = { text: this.#text.trim(), hasFixedBreaks: this.#hasFixedBreaks };
    const hasContent = this.#hasContent;
    this.reset();
    return hasContent ? rest : undefined;
  }

  /** Reads one token's worth of characters and says how many. */
  #step(text: string, index: number): number {
    const character = text[index] ?? '';
    const next = text[index + 1];
    if (character === '\n' && this.#mode !== 'code' && this.#mode !== 'comment') this.#hasFixedBreaks = true;
    switch (this.#mode) {
      case 'code':
        return this.#stepCode(text, index);
      case 'single_quote':
        if (character === "'") this.#mode = 'code';
        return 1;
      case 'escape_quote':
        if (character === '\\' && next !== undefined) return 2;
        if (character === "'") this.#mode = 'code';
        return 1;
      case 'double_quote':
        if (character === '"') this.#mode = 'code';
        return 1;
      case 'dollar_quote':
        if (!text.startsWith(this.#dollarTag, index)) return 1;
        this.#mode = 'code';
        return this.#dollarTag.length;
      case 'line_comment':
        if (character === '\n') this.#mode = 'code';
        return 1;
      case 'comment':
        return this.#stepComment(character, next);
    }
  }

  #stepComment(character: string, next: string | undefined): number {
    if (character === '*' && next === '/') {
      this.#commentDepth -= 1;
      if (this.#commentDepth === 0) this.#mode = 'code';
      return 2;
    }
    if (character === '/' && next === '*') {
      this.#commentDepth += 1;
      return 2;
    }
    return 1;
  }

  #stepCode(text: string, index: number): number {
    const character = text[index] ?? '';
    const next = text[index + 1];
    if (/\s/.test(character)) return 1;
    if (character === '-' && next === '-') {
      this.#mode = 'line_comment';
      return 2;
    }
    if (character === '/' && next === '*') {
      this.#mode = 'comment';
      this.#commentDepth = 1;
      return 2;
    }
    if (character === ';') return 1;
    this.#hasContent = true;
    if (character === "'") this.#mode = 'single_quote';
    else if (character === '"') this.#mode = 'double_quote';
    else if (character === '(') this.#parentheses += 1;
    else if (character === ')') this.#parentheses = Math.max(0, this.#parentheses - 1);
    else if (character === '$') return this.#stepDollar(text, index);
    else return this.#stepWord(text, index);
    return 1;
  }

  #stepDollar(text: string, index: number): number {
    DOLLAR_TAG.lastIndex = index;
    const tag = DOLLAR_TAG.exec(text)?.[0];
    if (tag === undefined) return 1;
    this.#mode = 'dollar_quote';
    this.#dollarTag = tag;
    return tag.length;
  }

  #stepWord(text: string, index: number): number {
    WORD.lastIndex = index;
    const word = WORD.exec(text)?.[0];
    if (word === undefined) return 1;
    if (/^e$/i.test(word) && text[index + 1] === "'") {
      this.#mode = 'escape_quote';
      return 2;
    }
    if (this.#parentheses === 0) this.#noteWord(word.toLowerCase());
    return word.length;
  }

  /** Counts the blocks of an SQL-standard function body, in which semicolons are its own. */
  #noteWord(word: string): void {
    if (this.#words.length < 4) this.#words.push(word);
    if (!ROUTINE.test(this.#words.join(' '))) return;
    if (word === 'begin' || (word === 'case' && this.#blocks > 0)) this.#blocks += 1;
    else if (word === 'end' && this.#blocks > 0) this.#blocks -= 1;
  }
}

const WORD = /[\p{L}_\d][\p{L}\p{M}_$\d]*/uy;
const DOLLAR_TAG = /\$(?:[\p{L}_][\p{L}\p{M}_\d]*)?\$/uy;
const ROUTINE = /^create (?:or replace )?(?:function|procedure)\b/;
