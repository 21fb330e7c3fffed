--- highlight.lua: groups and what they link to. All are `default`, so a colour scheme wins.

local M = {}

--- The first group of the list that exists here is taken: ComplHint came with Neovim 0.12.
---@type { name: string, links: string[], desc: string }[]
M.groups = {
  { name = 'GemmaGhost', links = { 'ComplHint', 'NonText' }, desc = 'ghost text' },
  {
    name = 'GemmaGhostMore',
    links = { 'ComplHintMore', 'MoreMsg' },
    desc = 'which of several it is, how far it is',
  },
  { name = 'GemmaSource', links = { 'Visual' }, desc = 'text that is being explained' },
  {
    name = 'GemmaMedia',
    links = { 'Directory' },
    desc = 'a picture or sound in the answer window',
  },
  { name = 'GemmaRec', links = { 'ErrorMsg' }, desc = 'that a recording is under way' },
  { name = 'GemmaTitle', links = { 'FloatTitle' }, desc = 'title of the answer window' },
  { name = 'GemmaThought', links = { 'Comment' }, desc = 'thoughts of the model' },
  { name = 'GemmaHeading', links = { 'Title' }, desc = 'headings, while an answer streams' },
  { name = 'GemmaCode', links = { 'String' }, desc = 'code, while an answer streams' },
  { name = 'GemmaFence', links = { 'NonText' }, desc = 'marks around code blocks' },
  { name = 'GemmaQuote', links = { 'Comment' }, desc = 'your own questions' },
  { name = 'GemmaBullet', links = { 'Special' }, desc = 'bullets of lists' },
  { name = 'GemmaBold', links = { '@markup.strong', 'Bold' }, desc = 'what is in bold' },
  { name = 'GemmaBusy', links = { 'DiagnosticInfo' }, desc = 'what an edit is doing' },
  { name = 'GemmaDiffAdd', links = { 'DiffAdd' }, desc = 'lines that an edit adds' },
  { name = 'GemmaDiffDelete', links = { 'DiffDelete' }, desc = 'lines that it takes away' },
  { name = 'GemmaDiffText', links = { 'DiffText' }, desc = 'what differs inside of a line' },
}

function M.define()
  for _, g in ipairs(M.groups) do
    local link = g.links[#g.links]
    for _, l in ipairs(g.links) do
      if vim.fn.hlexists(l) == 1 then
        link = l
        break
      end
    end
    vim.api.nvim_set_hl(0, g.name, { link = link, default = true })
  end
end

local done = false

--- Defines the groups at first use and again after each colour scheme.
function M.ensure()
  if done then
    return
  end
  done = true
  M.define()
  vim.api.nvim_create_autocmd('ColorScheme', {
    group = vim.api.nvim_create_augroup('gemma.highlight', {}),
    callback = M.define,
  })
end

return M
