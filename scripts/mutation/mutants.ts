/** Finds the single rules of a source file that can be flipped: comparisons, connectives, negations, refusals, names kept. */
import ts from 'typescript';

export interface Mutant {
  readonly file: string;
  readonly line: number;
  /** What it was and what it became, in a line. */
  readonly change: string;
  /** The whole file with the change. */
  readonly text: string;
}

const FLIPPED: ReadonlyMap<ts.SyntaxKind, string> = new Map([
  [ts.SyntaxKind.EqualsEqualsEqualsToken, '!=='],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken, '==='],
  [ts.SyntaxKind.LessThanToken, '<='],
  [ts.SyntaxKind.LessThanEqualsToken, '<'],
  [ts.SyntaxKind.GreaterThanToken, '>='],
  [ts.SyntaxKind.GreaterThanEqualsToken, '>'],
  [ts.SyntaxKind.AmpersandAmpersandToken, '||'],
  [ts.SyntaxKind.BarBarToken, '&&'],
]);

/** Every mutant of a file, each with one change. */
export function mutantsOf(file: string, source: string): Mutant[] {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const mutants: Mutant[] = [];
  const change = (node: ts.Node, replacement: string): void => {
    const start = node.getStart(tree);
    const { line } = tree.getLineAndCharacterOfPosition(start);
    const was = source.slice(start, node.end).replaceAll(/\s+/g, ' ').slice(0, 60);
    const text = source.slice(0, start) + replacement + source.slice(node.end);
    mutants.push({ file, line: line + 1, change: `${was} → ${replacement === '' ? 'nothing' : replacement}`, text });
  };
  const visit = (node: ts.Node): void => {
    // Types decide nothing at run time.
    if (ts.isTypeNode(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) return;
    if (ts.isBinaryExpression(node)) {
      const flipped = FLIPPED.get(node.operatorToken.kind);
      if (flipped !== undefined) change(node.operatorToken, flipped);
    } else if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.ExclamationToken) {
      change(node, node.operand.getText(tree));
    } else if (ts.isCallExpression(node) && node.expression.getText(tree) === 'refuse') {
      change(node, 'ALLOWED');
    } else if (ts.isReturnStatement(node) && node.expression?.getText(tree) === 'ALLOWED') {
      change(node, "return { ok: false, rule: 'send-power', reason: '' };");
    } else if (node.kind === ts.SyntaxKind.TrueKeyword) {
      change(node, 'false');
    } else if (node.kind === ts.SyntaxKind.FalseKeyword) {
      change(node, 'true');
    } else if (ts.isStringLiteral(node) && ts.isArrayLiteralExpression(node.parent)) {
      change(node, `${node.getText(tree).slice(0, -1)}_'`);
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return mutants;
}
