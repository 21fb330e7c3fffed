--- gemma.nvim: commands and maps; everything else is loaded when it is used.

if vim.g.loaded_gemma then
  return
end
vim.g.loaded_gemma = true

if vim.fn.has('nvim-0.10') == 0 then
  vim.notify('gemma: needs Neovim 0.10 or newer.', vim.log.levels.WARN)
  return
end

local command = vim.api.nvim_create_user_command

command('Gemma', function(args)
  require('gemma.command').run(args)
end, {
  nargs = '*',
  bang = true,
  range = true,
  desc = 'Gemma: state and control of the local model',
  complete = function(lead, line, pos)
    return require('gemma.command').complete(lead, line, pos)
  end,
})

command('GemmaExplain', function(args)
  require('gemma.explain').command(args)
end, { nargs = '*', range = true, desc = 'Gemma: explain the selection or the function here' })

for plug, verb in pairs({
  ['<Plug>(gemma-accept)'] = 'accept',
  ['<Plug>(gemma-accept-word)'] = 'accept_word',
  ['<Plug>(gemma-accept-line)'] = 'accept_line',
  ['<Plug>(gemma-next)'] = 'next',
  ['<Plug>(gemma-prev)'] = 'prev',
  ['<Plug>(gemma-dismiss)'] = 'dismiss',
  ['<Plug>(gemma-ask)'] = 'request',
}) do
  vim.keymap.set('i', plug, function()
    return require('gemma.keymap').run(verb)
  end, { expr = true, replace_keycodes = true, desc = 'Gemma: ' .. verb:gsub('_', ' ') })
end
for _, verb in ipairs({ 'explain', 'ask', 'edit', 'fix' }) do
  vim.keymap.set({ 'n', 'x' }, ('<Plug>(gemma-%s)'):format(verb), function()
    return require('gemma.operator').keys(verb)
  end, { expr = true, desc = ('Gemma: %s (operator)'):format(verb) })
end
for plug, ex in pairs({
  ['explain-here'] = 'GemmaExplain',
  image = 'Gemma image',
  shot = 'Gemma shot',
  record = 'lua require("gemma.operator").record()',
  stop = 'Gemma stop',
  status = 'Gemma status',
  toggle = 'Gemma toggle',
}) do
  local keys = ('<Cmd>%s<CR>'):format(ex)
  vim.keymap.set('n', ('<Plug>(gemma-%s)'):format(plug), keys, { desc = 'Gemma: ' .. plug })
end
vim.keymap.set(
  { 'n', 'i' },
  '<Plug>(gemma-dictate)',
  '<Cmd>Gemma dictate<CR>',
  { desc = 'Gemma: dictate' }
)

local group = vim.api.nvim_create_augroup('gemma', {})
vim.api.nvim_create_autocmd('InsertEnter', {
  group = group,
  once = true,
  desc = 'Gemma: start with the first Insert mode',
  callback = function()
    require('gemma').start()
  end,
})

--- What options ask for before anything is typed. A plugin manager may source this file late, and
--- call setup() after it.
local function at_startup()
  vim.schedule(function()
    local opts = vim.g.gemma
    if vim.is_callable(opts) then
      opts = require('gemma.config').get()
    end
    if type(opts) == 'table' and opts.load == 'startup' and opts.enabled ~= false then
      if require('gemma.sentinel').tripped() then
        require('gemma.completion').setup() -- which tells why nothing is loaded
      else
        require('gemma').load()
      end
    end
    if type(opts) == 'table' and opts.lsp == true then
      require('gemma.lsp').setup()
    end
  end)
end
if vim.v.vim_did_enter == 1 then
  at_startup()
else
  vim.api.nvim_create_autocmd('VimEnter', {
    group = group,
    once = true,
    desc = "Gemma: load = 'startup', lsp = true",
    callback = at_startup,
  })
end
